"""Bookmarks: keys that sort by time, which are kept, which comes next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from binlogsync.bookmarks import Bookmark, BookmarkRetention, find_bookmark, get_bookmark, next_bookmark
from binlogsync.errors import ConfigError, PositionError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
NOON_US = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * 1_000_000


def bookmark(
    place: str, minute: float = 0, *, name: str = "", gtids: str | None = None, server: str = UUID
) -> Bookmark:
    at_us = NOON_US + int(minute * 60_000_000)
    known = None if gtids is None else GtidSet.parse(gtids)
    return Bookmark(Checkpoint(BinlogPosition.parse(place), server, known), "interval", at_us, at_us, name)


@pytest.mark.parametrize(
    ("made", "key"),
    [
        (bookmark("binlog.000012:4567"), "20261123T120000.000Z_binlog.000012@4567"),
        (bookmark("binlog.000012:4567", 0.000505), "20261123T120000.030Z_binlog.000012@4567"),
        (bookmark("my bin/log.000012:4", name="before v2"), "20261123T120000.000Z_my-bin-log.000012@4_before-v2"),
        (bookmark("b.1:4", name="a...b\n树洞"), "20261123T120000.000Z_b.1@4_a-b-树洞"),
    ],
)
def test_a_key_names_time_place_and_name(made: Bookmark, key: str) -> None:
    assert made.key == key
    assert "..." not in made.key


def test_keys_sort_by_time_and_then_by_file() -> None:
    made = [
        bookmark("binlog.000999:900"),
        bookmark("binlog.001000:4"),
        bookmark("binlog.001000:900", 0.001),
        bookmark("binlog.001000:1000", 0.002),
        bookmark("binlog.001000:20", 1),
    ]
    assert [each.key for each in made] == sorted(each.key for each in made)


def test_it_is_written_and_read_back() -> None:
    made = replace(bookmark("binlog.000012:4567", name="höhe", gtids=f"{UUID}:1-5"), sequence=12, pinned=True)
    assert Bookmark.from_text(made.to_text()) == made
    for text in ("", "{}", made.to_text().replace("interval", "whim"), made.to_text().replace("4567", '"x"')):
        with pytest.raises(PositionError, match="not a (bookmark|checkpoint)"):
            Bookmark.from_text(text)


def test_it_does_not_lie_inside_a_transaction() -> None:
    with pytest.raises(PositionError, match="is inside a transaction"):
        Bookmark(Checkpoint(BinlogPosition("b.1", 4), UUID, skip=3), "person", 1, 1)


def test_the_newest_are_kept_and_pinned_ones_for_ever() -> None:
    made = [bookmark(f"binlog.000001:{100 + n}", n) for n in range(10)]
    made[0] = replace(made[0], pinned=True)
    now_us = made[-1].made_us
    assert BookmarkRetention(3).expired(made, now_us) == made[1:7]
    assert BookmarkRetention(age_s=150).expired(made, now_us) == made[1:7]
    assert BookmarkRetention().expired(made, now_us) == []
    for wrong in ({"count": 0}, {"age_s": 0}):
        with pytest.raises(ConfigError, match="at least 1 bookmark"):
            BookmarkRetention(**wrong)


def test_it_is_found_by_key_and_by_name() -> None:
    made = [bookmark("b.1:4", 1, name="v2"), bookmark("b.1:90", 2, name="v2"), bookmark("b.1:50", 3)]
    assert find_bookmark(made, made[0].key) is made[0]
    assert find_bookmark(made, "v2") is made[1]
    assert find_bookmark(made, "v3") is None
    assert find_bookmark(made, "") is None


def test_the_next_is_the_nearest_place_behind_whatever_the_order() -> None:
    first, second, third = bookmark("b.1:900"), bookmark("b.2:4"), bookmark("b.10:4")
    twin = replace(second, name="the same position")
    for shuffled in ([third, twin, second, first], [first, second, twin, third]):
        found = next_bookmark(shuffled, first)
        assert found in (second, twin)
        assert next_bookmark(shuffled, second) is third
        assert next_bookmark(shuffled, twin) is third
        assert next_bookmark(shuffled, third) is None


def test_behind_a_failover_gtids_tell_what_comes_next() -> None:
    before = bookmark("binlog.000900:4", 0, gtids=f"{UUID}:1-5")
    behind = bookmark("binlog.000001:4", 1, gtids=f"{UUID}:1-5,{OTHER}:1-3", server=OTHER)
    last = bookmark("binlog.000001:90", 2, gtids=f"{UUID}:1-5,{OTHER}:1-9", server=OTHER)
    assert next_bookmark([last, behind, before], before) is behind
    assert next_bookmark([last, behind, before], behind) is last
    foreign = bookmark("binlog.000001:90", 2, server=OTHER)
    assert next_bookmark([foreign], before) is None, "unknown order without GTIDs"


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (
            [],
            "there are none yet; the tail records one every few minutes, and `binlogsync bookmarks add NAME` adds one",
        ),
        (
            [bookmark("b.1:4"), bookmark("b.1:9", 1)],
            "none has a name, and 2 have only a key, such as 20261123T120100.000Z_b.1@9",
        ),
        (
            [bookmark("b.1:4", name="v1"), bookmark("b.1:9", 1, name="v2"), bookmark("b.2:4", 2)],
            "names are 'v2', 'v1', and 1 have only a key, such as 20261123T120200.000Z_b.2@4",
        ),
        (
            [bookmark("b.1:4", n, name=f"v{n}") for n in range(30)],
            "'v11', 'v10' and 10 more; `binlogsync bookmarks list",
        ),
    ],
)
def test_a_bookmark_that_does_not_exist_is_an_error_that_lists_the_others(kept: list[Bookmark], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^'v99' is not a bookmark of source main; ") as caught:
        get_bookmark(kept, "v99", "main")
    assert message in str(caught.value)
