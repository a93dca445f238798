"""Contract tests of a `TableStore`. The test of a target subclasses `TableStoreContract` and defines two fixtures:
each call of `opener()` opens the same store again, like another process, and `read(database, table)` reads a table as
another program does. A new target needs no other test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from binlogsync.errors import ConsumeError
from binlogsync.mirror.apply import apply
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, progress_at
from binlogsync.targets.records import ReplayRecord, RewindRecord, Skip, new_gap
from tests.duck import make_batch
from tests.targets.contract_changes import ChangeContract
from tests.targets.contract_loads import LoadContract
from tests.targets.contract_mirrors import ROW, SCHEMA, SOFT, MirrorContract, inserts, row
from tests.targets.contract_policies import PolicyContract
from tests.targets.contract_published import PublishedContract

__all__ = ["Opener", "ReadTable", "TableStoreContract"]

Opener = Callable[[], TableStore]
ReadTable = Callable[[str, str], Sequence[dict[str, Any]]]
KEY = ProgressKey("client", "main", "shop", "things")


def moved(transaction: TableTransaction, before: ConsumerProgress, number: int) -> ConsumerProgress:
    """Apply the insert of a row, and move progress to it."""
    batch = make_batch(SCHEMA, [("c", None, {**ROW, "id": number})], number)
    state = transaction.load_mirror("shop", "things")
    if state.schema is None:
        state = transaction.create_table(state, SCHEMA)
    transaction.apply_rows(state, [batch])
    return transaction.move_progress(KEY, before, before.after(batch, number, None))


class TableStoreContract(MirrorContract, ChangeContract, LoadContract, PublishedContract, PolicyContract):
    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError("each target's test gives its own")

    @pytest.fixture
    def read(self) -> ReadTable:
        raise NotImplementedError("each target's test gives its own")

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[TableStore]:
        store = opener()
        yield store
        store.release()

    def test_progress_is_stored_with_the_rows(self, store: TableStore, opener: Opener, read: ReadTable) -> None:
        with store.begin() as transaction:
            assert transaction.load_progress(KEY) == NO_PROGRESS
            first = moved(transaction, NO_PROGRESS, 1)
        with pytest.raises(ConsumeError):
            self.insert_twice(store, first)
        with opener().begin() as transaction:
            assert transaction.load_progress(KEY) == first
        assert [row["id"] for row in read("shop", "things")] == [1]
        assert (first.sequence, first.changes, first.epoch) == (1, 1, 1)

    def insert_twice(self, store: TableStore, before: ConsumerProgress) -> None:
        with store.begin() as transaction:
            moved(transaction, before, 2)
            moved(transaction, before, 3)

    def test_of_two_writers_one_is_refused(self, store: TableStore, opener: Opener, read: ReadTable) -> None:
        other = opener()
        with store.begin() as transaction:
            before = moved(transaction, NO_PROGRESS, 1)
        with other.begin() as transaction:
            assert transaction.load_progress(KEY) == before
            after = moved(transaction, before, 2)
        with pytest.raises(ConsumeError, match="was changed by another process"), store.begin() as transaction:
            moved(transaction, before, 3)
        assert sorted(row["id"] for row in read("shop", "things")) == [1, 2]
        with store.begin() as transaction:
            assert transaction.load_progress(KEY) == after

    def test_an_update_that_changes_nothing_else_is_noticed_too(self, store: TableStore) -> None:
        with store.begin() as transaction:
            before = transaction.move_progress(KEY, NO_PROGRESS, NO_PROGRESS)
        with store.begin() as transaction:
            transaction.move_progress(KEY, before, before)
        with pytest.raises(ConsumeError), store.begin() as transaction:
            transaction.move_progress(KEY, before, before)

    def test_of_many_consumers_one_that_another_writer_moved_is_noticed(self, store: TableStore) -> None:
        keys = [replace(KEY, table=f"t{number}") for number in range(4)]
        with store.begin() as transaction:
            first = transaction.move_all_progress([(key, NO_PROGRESS, NO_PROGRESS) for key in keys[:2]])
        moves = [*zip(keys[:2], first, first, strict=True), *((key, NO_PROGRESS, NO_PROGRESS) for key in keys[2:])]
        with store.begin() as transaction:
            assert transaction.move_all_progress([]) == []
            moved = transaction.move_all_progress(moves)
            assert [transaction.load_progress(key) for key in keys] == list(moved)
        for number, (key, _, _) in enumerate(moves):
            rest = [(key, after, after) for (key, _, _), after in zip(moves, moved, strict=True)]
            rest[number] = moves[number]  # what the other writer stored is equal to what this one stores
            with pytest.raises(ConsumeError, match=f"shop.{key.table} of client"), store.begin() as transaction:
                transaction.move_all_progress(rest)
        with store.begin() as transaction:
            assert dict(transaction.load_all_progress()) == dict(zip(keys, moved, strict=True))

    def test_a_consumer_that_was_removed_and_began_again_is_noticed(self, store: TableStore) -> None:
        with store.begin() as transaction:
            before = transaction.move_progress(KEY, NO_PROGRESS, replace(NO_PROGRESS, seen=3))
            transaction.forget_progress(KEY)
            transaction.move_progress(KEY, NO_PROGRESS, replace(NO_PROGRESS, seen=4))  # of the same epoch
        with pytest.raises(ConsumeError, match="changed by another process"), store.begin() as transaction:
            transaction.move_progress(KEY, before, before)

    def test_consumers_are_independent(self, store: TableStore) -> None:
        others = [replace(KEY, client="c2"), replace(KEY, source="s2"), replace(KEY, database="d2")]
        with store.begin() as transaction:
            batch = make_batch(SCHEMA, [("c", None, ROW)])
            transaction.move_progress(KEY, NO_PROGRESS, progress_at(batch, 0, 7, 9))
            assert [transaction.load_progress(key) for key in others] == [NO_PROGRESS] * 3
            transaction.forget_progress(others[0])
            assert transaction.load_progress(KEY).seen == 9
            transaction.forget_progress(KEY)
            assert transaction.load_progress(KEY) == NO_PROGRESS

    def test_the_mirrors_of_a_client_are_found(self, store: TableStore, opener: Opener) -> None:
        other = replace(KEY, client="c2", table="others")
        with store.begin() as transaction:
            moved(transaction, NO_PROGRESS, 1)
            transaction.move_progress(other, NO_PROGRESS, NO_PROGRESS)  # of a handler: it has no mirror
        with opener().begin() as transaction:
            assert transaction.list_mirrors("client", "main") == {("shop", "things")}
            assert transaction.list_mirrors("c2", "main") == set()
            assert list(transaction.list_consumers("shop", "others")) == [other]
            assert list(transaction.list_consumers("shop", "nothing")) == []

    def test_gaps_are_open_until_they_are_resolved(self, store: TableStore, opener: Opener) -> None:
        first = new_gap("retention", "1 to 5", is_mirror=True)
        later = replace(first, detail="7 to 8", found_at=first.found_at + timedelta(hours=1))
        with store.begin() as transaction:
            assert list(transaction.load_gaps(KEY)) == []
            for gap in (first, replace(first, found_at=later.found_at), later):
                transaction.insert_gap(KEY, gap)
            transaction.resolve_gaps(KEY, "read again", "the mirror", until=first.found_at)
        with opener().begin() as transaction:
            done, left = transaction.load_gaps(KEY)
        assert (done, left) == (replace(first, resolution="read again", resolved_by="the mirror"), later)

    def test_skips_and_rewinds_are_recorded(self, store: TableStore, opener: Opener) -> None:
        names = (KEY.client, KEY.source, KEY.database, KEY.table)
        skip = Skip(*names, "id1", "u", "binlog.000001:4", '{"a":1}', "it's bad", "me", datetime.now(UTC))
        with store.begin() as transaction:
            assert list(transaction.load_skips(KEY)) == []
            transaction.insert_skip(skip)
            transaction.insert_rewind(RewindRecord(KEY, "back", "oldest", "", "me", 3, "a", "b", is_rebuilt=False))
        with opener().begin() as transaction:
            assert list(transaction.load_skips(KEY)) == [skip]
            assert list(transaction.load_skips(replace(KEY, client="other"))) == []

    def test_replays_are_listed_in_order_until_they_are_forgotten(self, store: TableStore, opener: Opener) -> None:
        replay = ReplayRecord("n1", "main", "shop", "things", "oldest..head", "table", '{"plan":1}')
        with store.begin() as transaction:
            assert list(transaction.load_replays()) == []
            transaction.insert_replay(replay)
        with opener().begin() as transaction:
            assert list(transaction.load_replays()) == [replay]
            transaction.finish_replay("n1")
        other = replace(replay, number="n2", plan='{"plan":2}')
        with opener().begin() as transaction:
            transaction.insert_replay(other)
            transaction.move_progress(other.key, NO_PROGRESS, NO_PROGRESS)
            assert list(transaction.load_replays()) == [replace(replay, is_finished=True), other]
            assert list(transaction.list_consumers("shop", "things")) == []
            transaction.forget_replay(other)
            assert list(transaction.load_replays()) == [replace(replay, is_finished=True)]
            assert transaction.load_progress(other.key) == NO_PROGRESS

    def test_all_progress_and_mirrors_are_listed(self, store: TableStore, opener: Opener) -> None:
        with store.begin() as transaction:
            assert dict(transaction.load_all_progress()) == {}
            assert set(transaction.list_all_mirrors()) == set()
        other = replace(KEY, client="c2", source="s2", table="others")
        with store.begin() as transaction:
            first = moved(transaction, NO_PROGRESS, 1)
            second = transaction.move_progress(other, NO_PROGRESS, replace(NO_PROGRESS, seen=4))
        before = store.version
        assert before is not None
        with opener().begin() as transaction:
            assert dict(transaction.load_all_progress()) == {KEY: first, other: second}
            assert set(transaction.list_all_mirrors()) == {("shop", "things")}
            transaction.forget_progress(other)
        assert store.version != before

    def test_rows_are_counted_and_shown(self, store: TableStore) -> None:
        with store.begin() as transaction:
            assert transaction.count_rows("shop", "things") is None
            apply(transaction, [inserts(row(1), row(2)), make_batch(SCHEMA, [("d", row(1), None)], 2)], SOFT)
            other = replace(SCHEMA, table="Things")  # the name of its table differs, in a store that ignores case
            apply(transaction, [inserts(row(7), schema=other)])
        with store.begin() as transaction:
            assert transaction.count_rows("shop", "things") == 2
            assert transaction.count_rows("shop", "things", with_deleted=False) == 1
            assert transaction.count_rows("shop", "Things", with_deleted=False) == 1
            assert transaction.count_rows("shop", "missing") is None
            names, rows = transaction.read_first_rows("shop", "Things", 5)
            assert (list(names), [tuple(each) for each in rows]) == (["id", "a", "n"], [(7, "x", 2**64 - 1)])
            assert len(transaction.read_first_rows("shop", "things", 1)[1]) == 1

    def test_nothing_is_held_after_a_release(self, store: TableStore, opener: Opener) -> None:
        with store.begin(keep_open=True) as transaction:
            before = transaction.load_progress(KEY)
        store.release()
        assert not store.is_open
        with opener().begin() as transaction:
            assert transaction.load_progress(KEY) == before
        assert store.address == opener().address

    def test_threads_use_the_store_at_the_same_time(self, store: TableStore) -> None:
        keys = [replace(KEY, table=f"t{number}") for number in range(8)]

        def move(key: ProgressKey) -> ConsumerProgress:
            own = store.another()
            with own.begin(keep_open=True) as transaction:
                before = transaction.move_progress(key, NO_PROGRESS, replace(NO_PROGRESS, seen=1))
            with own.begin() as transaction:
                after = transaction.move_progress(key, before, replace(before, seen=2))
            own.release()
            return after

        with ThreadPoolExecutor(4) as pool:
            moved = dict(zip(keys, pool.map(move, keys), strict=True))
        with store.begin() as transaction:
            assert {key: transaction.load_progress(key) for key in keys} == moved
