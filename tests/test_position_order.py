"""The comparison of positions: which information decides, for every pair of kinds, and when the order is unknown."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from binlogsync.errors import PositionError
from binlogsync.position import BinlogPosition, Checkpoint, EventPosition, GtidSet, ResumePosition
from binlogsync.position_order import AnyPosition, PositionOrder, compare, compare_or_raise
from binlogsync.server_version import ServerFlavor
from tests.test_position import UUIDS, Model, built, models

BEFORE, SAME, AFTER, UNKNOWN = PositionOrder
A, B, _ = UUIDS


def at(text: str) -> BinlogPosition:
    return BinlogPosition.parse(text)


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text.replace("A", A).replace("B", B))


def checkpoint(position: str, server: str = A, known: str | None = None, skip: int = 0) -> Checkpoint:
    return Checkpoint(at(position), server, None if known is None else gtids(known), skip)


def event(position: str, server: str = A, gtid: str | None = None, row: int = 0, order: int = 0) -> EventPosition:
    return EventPosition(at(position), server, gtid and gtid.replace("A", A).replace("B", B), row, order)


def resume(position: str, known: str | None = None) -> ResumePosition:
    return ResumePosition(at(position), None if known is None else gtids(known))


TABLE: list[tuple[AnyPosition, AnyPosition, PositionOrder]] = [
    # Positions of one log: file number, then offset.
    (at("b.000001:4"), at("b.000001:5"), BEFORE),
    (at("b.000001:4"), at("b.000001:4"), SAME),
    (at("b.000001:900"), at("b.000002:4"), BEFORE),
    (at("b.999999:500"), at("b.1000000:4"), BEFORE),
    (at("a.000001:4"), at("b.000001:4"), SAME),
    # GTID sets: the subset is before.
    (gtids("A:1-5"), gtids("A:1-6"), BEFORE),
    (gtids("A:1-5"), gtids("A:1-5,B:1"), BEFORE),
    (gtids("A:1-5"), gtids("A:1-3:4-5"), SAME),
    (gtids("A:1-5"), gtids("B:1"), UNKNOWN),
    (gtids("A:1-5"), gtids("A:1-4:6"), UNKNOWN),
    (gtids(""), gtids("A:1"), BEFORE),
    (gtids("0-1-7"), gtids("0-1-8"), BEFORE),
    (gtids("0-1-7"), gtids("0-2-7"), SAME),
    (gtids("0-1-7,1-1-2"), gtids("0-1-8,1-1-1"), UNKNOWN),
    (gtids("0-1-7"), gtids("A:7"), UNKNOWN),
    # Resume positions: GTIDs if both have them, else the position.
    (resume("b.9:4", "A:1-5"), resume("b.1:4", "A:1-6"), BEFORE),
    (resume("b.9:4", "A:1-5"), resume("b.1:4", "A:1-5"), SAME),
    (resume("b.9:4", "A:1-5"), resume("b.1:4", "B:1-5"), UNKNOWN),
    (resume("b.9:4", "A:1-5"), resume("b.1:4"), AFTER),
    (resume("b.1:4"), resume("b.1:4"), SAME),
    # Checkpoints of one server: position and skip; GTIDs do not decide.
    (checkpoint("b.1:4"), checkpoint("b.1:5"), BEFORE),
    (checkpoint("b.1:4", skip=1), checkpoint("b.1:4", skip=2), BEFORE),
    (checkpoint("b.1:4", skip=9), checkpoint("b.1:5"), BEFORE),
    (checkpoint("b.1:4"), checkpoint("b.1:4", known="A:1"), SAME),
    (checkpoint("b.1:4", known="A:1-9"), checkpoint("b.1:5", known="A:1"), BEFORE),
    # Checkpoints of two servers: GTIDs, and skip if the sets are equal; positions do not decide.
    (checkpoint("b.9:4", A, "A:1-5"), checkpoint("b.1:4", B, "A:1-6"), BEFORE),
    (checkpoint("b.9:4", A, "A:1-5", 9), checkpoint("b.1:4", B, "A:1-6"), BEFORE),
    (checkpoint("b.9:4", A, "A:1-5"), checkpoint("b.1:4", B, "A:1-5"), SAME),
    (checkpoint("b.9:4", A, "A:1-5", 1), checkpoint("b.1:4", B, "A:1-5", 2), BEFORE),
    (checkpoint("b.9:4", A, "A:1-5"), checkpoint("b.1:4", B, "B:1-5"), UNKNOWN),
    (checkpoint("b.9:4", A), checkpoint("b.1:4", B), UNKNOWN),
    (checkpoint("b.9:4", A, "A:1"), checkpoint("b.1:4", B), UNKNOWN),
    # Events of one server: position and row.
    (event("b.1:4", row=1), event("b.1:4", row=2), BEFORE),
    (event("b.1:4", row=9), event("b.1:5", row=0), BEFORE),
    (event("b.1:4", row=1, order=1), event("b.1:4", row=1, order=7), SAME),
    # Events of two servers: the number of the GTID and the order, if the origin is the same.
    (event("b.9:4", A, "A:5"), event("b.1:4", B, "A:6"), BEFORE),
    (event("b.9:4", A, "A:9"), event("b.1:4", B, "A:10"), BEFORE),
    (event("b.9:4", A, "A:5", order=1), event("b.1:4", B, "A:5", order=2), BEFORE),
    (event("b.9:4", A, "A:5", row=3, order=1), event("b.1:4", B, "A:5", row=0, order=1), SAME),
    (event("b.9:4", A, "A:5"), event("b.1:4", B, "B:6"), UNKNOWN),
    (event("b.9:4", A, "A:blue:5"), event("b.1:4", B, "A:6"), UNKNOWN),
    (event("b.9:4", A, "0-1-5"), event("b.1:4", B, "0-1-6"), BEFORE),
    (event("b.9:4", A, "0-1-5"), event("b.1:4", B, "0-2-6"), UNKNOWN),
    (event("b.9:4", A, "A:5"), event("b.1:4", B), UNKNOWN),
    # An event and a checkpoint: by position on one server, by GTID across servers.
    (event("b.1:4"), checkpoint("b.1:5"), BEFORE),
    (event("b.1:5", row=3), checkpoint("b.1:5"), SAME),
    (event("b.1:6"), checkpoint("b.1:5", skip=9), AFTER),
    (event("b.9:4", A, "A:5"), checkpoint("b.1:4", B, "A:1-5"), BEFORE),
    (event("b.1:4", A, "A:6"), checkpoint("b.9:4", B, "A:1-5"), AFTER),
    (event("b.1:4", A), checkpoint("b.9:4", B, "A:1-5"), UNKNOWN),
    (event("b.1:4", A, "A:6"), checkpoint("b.9:4", B), UNKNOWN),
    (event("b.1:4", A, "0-1-6"), checkpoint("b.9:4", B, "A:1-5"), UNKNOWN),
    # Other pairs have nothing to compare by.
    (at("b.1:4"), gtids("A:1"), UNKNOWN),
    (at("b.1:4"), checkpoint("b.1:4"), UNKNOWN),
    (gtids("A:1"), checkpoint("b.1:4", known="A:1"), UNKNOWN),
]


@pytest.mark.parametrize(("one", "other", "order"), TABLE)
def test_the_order_of_two_positions(one: AnyPosition, other: AnyPosition, order: PositionOrder) -> None:
    assert compare(one, other) is order
    assert compare(other, one) is order.reversed


positions = st.builds(BinlogPosition, st.sampled_from(("b.000001", "b.000002", "b.1000000")), st.integers(4, 6))
small_models = st.dictionaries(st.sampled_from(UUIDS), st.sets(st.integers(1, 3), min_size=1))
gtid_sets = st.builds(built, small_models)
gtid_names = st.builds("{}:{}".format, st.sampled_from(UUIDS), st.integers(1, 3))
small = st.integers(0, 2)
checkpoints = st.builds(Checkpoint, positions, st.sampled_from((A, B)), st.none() | gtid_sets, small)
events = st.builds(EventPosition, positions, st.sampled_from((A, B)), st.none() | gtid_names, small, small)
resumes = st.builds(ResumePosition, positions, st.none() | gtid_sets)
any_position = st.one_of(positions, gtid_sets, checkpoints, events, resumes)


@given(any_position)
def test_a_position_is_the_same_as_itself(position: AnyPosition) -> None:
    assert compare(position, position) is SAME


@given(any_position, any_position)
def test_the_order_is_antisymmetric(one: AnyPosition, other: AnyPosition) -> None:
    assert compare(one, other) is compare(other, one).reversed


def assert_transitive(first: AnyPosition, second: AnyPosition, third: AnyPosition) -> None:
    one, two = compare(first, second), compare(second, third)
    assume(UNKNOWN not in (one, two) and one.reversed is not two)
    assert compare(first, third) is (two if one is SAME else one)


@pytest.mark.slow
@given(st.sampled_from((positions, gtid_sets)).flatmap(lambda kind: st.tuples(kind, kind, kind)))
def test_positions_and_gtid_sets_are_ordered_transitively(three: tuple[AnyPosition, AnyPosition, AnyPosition]) -> None:
    assert_transitive(*three)


@pytest.mark.slow
@given(*[st.builds(Checkpoint, positions, st.just(A), st.none() | gtid_sets, small)] * 3)
def test_checkpoints_of_one_server_are_ordered_transitively(a: Checkpoint, b: Checkpoint, c: Checkpoint) -> None:
    assert_transitive(a, b, c)


@pytest.mark.slow
@given(*[st.builds(Checkpoint, positions, st.just(server), gtid_sets, small) for server in UUIDS])
def test_checkpoints_of_three_servers_are_ordered_transitively(a: Checkpoint, b: Checkpoint, c: Checkpoint) -> None:
    assert_transitive(a, b, c)


@given(*[st.builds(EventPosition, positions, st.just(A), st.none() | gtid_names, small, small)] * 3)
def test_events_of_one_server_are_ordered_transitively(a: EventPosition, b: EventPosition, c: EventPosition) -> None:
    assert_transitive(a, b, c)


@given(st.tuples(st.integers(1, 10**7), st.integers(0, 2**40)), st.tuples(st.integers(1, 10**7), st.integers(0, 2**40)))
def test_positions_are_ordered_by_file_number_then_offset(a: tuple[int, int], b: tuple[int, int]) -> None:
    left, right = (BinlogPosition(f"binlog.{number:06d}", pos) for number, pos in (a, b))
    assert compare(left, right) is (SAME if a == b else BEFORE if a < b else AFTER)


def of_sets(a: Model, b: Model) -> PositionOrder:
    """The order by the relations of Python's sets."""
    left, right = ({(key, number) for key in model for number in model[key]} for model in (a, b))
    return SAME if left == right else BEFORE if left < right else AFTER if left > right else UNKNOWN


@given(models, models)
def test_gtid_sets_are_ordered_as_sets(a: Model, b: Model) -> None:
    assert compare(built(a), built(b)) is of_sets(a, b)


@given(small_models, small_models, small, small)
def test_checkpoints_of_two_servers_are_ordered_as_sets_then_by_skip(a: Model, b: Model, mine: int, its: int) -> None:
    left = Checkpoint(at("b.9:4"), A, built(a), mine)
    right = Checkpoint(at("b.1:4"), B, built(b), its)
    by_skip = SAME if mine == its else BEFORE if mine < its else AFTER
    assert compare(left, right) is (by_skip if a == b else of_sets(a, b))


@given(*[st.tuples(st.integers(1, 3), st.integers(4, 6), st.integers(0, 2))] * 2)
def test_checkpoints_of_one_server_are_ordered_by_position_then_skip(
    a: tuple[int, int, int], b: tuple[int, int, int]
) -> None:
    left, right = (Checkpoint(BinlogPosition(f"binlog.{f:06d}", pos), A, None, skip) for f, pos, skip in (a, b))
    assert compare(left, right) is (SAME if a == b else BEFORE if a < b else AFTER)


@given(checkpoints, events)
def test_an_event_and_a_checkpoint_of_two_servers_are_ordered_by_membership(
    place: Checkpoint, change: EventPosition
) -> None:
    assume(place.server_uuid != change.server_uuid)
    if place.gtids is None or change.gtid is None:
        assert compare(change, place) is UNKNOWN
    else:
        assert compare(change, place) is (BEFORE if place.gtids.has(change.gtid) else AFTER)


def test_the_order_of_mariadb_domains_in_the_text_does_not_matter() -> None:
    one = GtidSet(ServerFlavor.MARIADB, {"1": ((2, 7),), "0": ((1, 9),)})
    other = GtidSet(ServerFlavor.MARIADB, {"0": ((1, 9),), "1": ((2, 7),)})
    assert compare(one, other) is SAME
    assert compare(Checkpoint(at("b.1:4"), "mariadb:1", one, 5), Checkpoint(at("b.1:4"), "mariadb:2", other)) is AFTER


@given(checkpoints, checkpoints)
def test_compare_or_raise_raises_only_between_servers_without_gtids(one: Checkpoint, other: Checkpoint) -> None:
    if one.server_uuid != other.server_uuid and None in (one.gtids, other.gtids):
        with pytest.raises(PositionError, match="cannot be compared"):
            compare_or_raise(one, other)
    else:
        assert compare_or_raise(one, other) is compare(one, other)


def test_a_file_without_a_number_cannot_be_compared() -> None:
    with pytest.raises(PositionError, match="'binlog' is not a binlog file name"):
        compare(BinlogPosition("binlog", 4), BinlogPosition("binlog.000001", 5))


@pytest.mark.parametrize("order", list(PositionOrder))
def test_unknown_is_neither_known_to_be_before_nor_after(order: PositionOrder) -> None:
    assert order.may_be_before == (order in (BEFORE, UNKNOWN))
    assert order.is_at_or_before == (order in (BEFORE, SAME))
    assert order.is_at_or_after == (order in (AFTER, SAME)) != order.may_be_before


@given(positions, positions, st.none() | gtid_sets, st.none() | gtid_sets)
def test_resume_positions_are_ordered_by_gtid_if_both_have_gtids(
    one: BinlogPosition, other: BinlogPosition, mine: GtidSet | None, its: GtidSet | None
) -> None:
    order = compare(ResumePosition(one, mine), ResumePosition(other, its))
    assert order is (compare(one, other) if mine is None or its is None else compare(mine, its))


def test_two_kinds_without_common_information_have_no_order() -> None:
    kinds: list[AnyPosition] = [at("b.1:4"), gtids("A:1"), resume("b.1:4", "A:1"), checkpoint("b.1:4", known="A:1")]
    for one, other in product(kinds, kinds):
        assert (compare(one, other) is UNKNOWN) == (one is not other)
