"""Rewind: a consumer that is moved back receives exactly the changes after the position again.

One that is moved forward never receives the changes in between. User and reason are recorded.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
import pytest

from binlogsync.bookmarks import Bookmark
from binlogsync.change import Change
from binlogsync.consume.engine import ConsumeOptions, ConsumeResult
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey, TableProgress
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.errors import ConfigError, ConsumeError, PositionError, SourceError
from binlogsync.mirror.target import Mirror
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.rewind import RewindRequest, RewindResult, rewind
from binlogsync.replay.sources import ChangeSources
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import META_SCHEMA
from binlogsync.targets.duckdb.store import DuckStore
from tests.duck import mirror_rows, query
from tests.e2e.backfill_workload import CustomerRow, TailedWorkload, file_of_ids, note_ids
from tests.e2e.tailing import drain

pytestmark = [pytest.mark.server, pytest.mark.slow]


class RewoundConsumer:
    """A consumer of one table, and rewinds of its progress."""

    def __init__(self, tailed: TailedWorkload, path: Path, table: str, make: Callable[[], Target]) -> None:
        self.tailed, self.path, self.table, self.make = tailed, path, table, make
        self.key = ProgressKey("binlogsync", tailed.source, tailed.database, table)
        self.audit = path.with_name("audit.duckdb")

    def drain(self, max_changes: int = 1000) -> ConsumeResult:
        options = ConsumeOptions(idle_s=0.3, gather_s=0.05, max_changes=max_changes)
        with self.tailed.sources(self.table) as sources:
            assert sources.stream is not None
            rounds = drain(sources.stream.reader, (self.tailed.database, self.table), self.make(), options)
            return replace(rounds[-1], counts=sum((Counter(one.counts) for one in rounds), Counter()))

    def move(self, to: str, reason: str = "", *, rebuild: bool = False) -> RewindResult:
        store = TableProgress(DuckStore(self.path, error=ConsumeError))
        wanted = RewindRequest(key=self.key, to=to, reason=reason, who="test", rebuild=rebuild)
        with self.tailed.sources(self.table) as sources:
            return rewind(sources, store, wanted, self.audit)

    def ids(self) -> list[str]:
        return [row[0] for row in query(self.path, "SELECT id FROM ids ORDER BY rowid")]


@pytest.fixture
def customers(tailed: TailedWorkload, tmp_path: Path) -> RewoundConsumer:
    path = file_of_ids(tmp_path)
    return RewoundConsumer(tailed, path, "customers", lambda: Handler(CustomerRow, note_ids, path))


def ids_of(tailed: TailedWorkload, table: str) -> list[str]:
    return [row.row[0] for row in tailed.rows(table)]


def test_exactly_the_changes_after_the_position_are_delivered_again(
    tailed: TailedWorkload, customers: RewoundConsumer
) -> None:
    rows = tailed.rows("customers")
    expected = ids_of(tailed, "customers")
    bookmarks = tailed.store.bookmarks.load(tailed.source)

    def ids_behind(bookmark: Bookmark) -> list[str]:
        place = bookmark.checkpoint.position
        return [row.row[0] for row in rows if (row.file, row.txn_pos) >= (place.file_number, place.pos)]

    # The bookmark nearest to the middle of the changes: how many lie before each depends on the time that they took.
    chosen = min(bookmarks, key=lambda bookmark: abs(len(ids_behind(bookmark)) - len(expected) // 2))
    behind = ids_behind(chosen)
    assert 0 < len(behind) < len(expected)
    customers.drain()
    assert customers.ids() == expected

    moved = customers.move(chosen.key, "a bug in the handler")
    assert (moved.direction, moved.messages) == ("back", len(behind))
    assert customers.drain().changes == len(behind)
    assert customers.ids() == expected + behind
    assert customers.drain().changes == 0

    middle = rows[len(rows) // 2]
    again = [row.row[0] for row in rows if row.gtid > middle.gtid]
    gtids = f"{middle.row[0].split(':')[0]}:1-{middle.gtid}"
    assert customers.move(gtids).messages == len(again)
    assert customers.drain().changes == len(again)
    record = "SELECT direction, reason, who, messages FROM {} ORDER BY moved_at"
    kept = [("back", "a bug in the handler", "test", len(behind)), ("back", "", "test", len(again))]
    assert query(customers.path, record.format(f"{META_SCHEMA}.rewinds")) == kept
    assert query(customers.audit, record.format("rewinds")) == kept


def test_forward_requires_a_reason_and_skips_the_changes_in_between(
    tailed: TailedWorkload, customers: RewoundConsumer
) -> None:
    expected = ids_of(tailed, "customers")
    customers.drain()
    first = f"seq:{first_sequence(tailed)}"
    assert customers.move(first).messages == len(expected) + 1, "the CREATE TABLE has one too"
    row = tailed.rows("customers")[len(expected) // 3]
    to = row.committed.isoformat()
    left = next(n for n, other in enumerate(tailed.rows("customers")) if other.committed >= row.committed)
    with pytest.raises(ConfigError, match="give a `reason`"):
        customers.move(to)
    moved = customers.move(to, "these were test data")
    assert (moved.direction, moved.messages) == ("forward", left + 1)
    assert customers.drain().changes == len(expected) - left
    assert customers.ids() == expected + expected[left:]
    assert customers.move("head").direction == "nowhere"


def test_a_running_consumer_fails_at_its_next_transaction(tailed: TailedWorkload, tmp_path: Path) -> None:
    path, calls = file_of_ids(tmp_path), 0

    def handler(change: Change[CustomerRow], connection: duckdb.DuckDBPyConnection) -> None:
        nonlocal calls
        calls += 1
        note_ids(change, connection)

    class MovedMeanwhile(Handler[CustomerRow]):
        """A consumer that is rewound between two of its transactions."""

        def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
            super().take(work, stop)
            if calls < 10**6:
                consuming.move(f"seq:{first_sequence(tailed)}")

    consuming = RewoundConsumer(tailed, path, "customers", lambda: MovedMeanwhile(CustomerRow, handler, path))
    with pytest.raises(ConsumeError, match="if the consumer was rewound, run it again"):
        consuming.drain(max_changes=200)
    done_first = consuming.ids()
    expected = ids_of(tailed, "customers")
    assert done_first == expected[: len(done_first)]
    consuming.make = lambda: Handler(CustomerRow, handler, path)
    consuming.drain()
    assert consuming.ids() == done_first + expected


def test_a_mirror_with_a_key_is_moved_back_and_one_without_is_rebuilt(tailed: TailedWorkload, tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    first = f"seq:{first_sequence(tailed)}"
    for table, refused in (("customers", None), ("visits", "has no key"), ("orders", "columns have changed")):
        mirror = RewoundConsumer(tailed, path, table, partial(Mirror, path, tailed.database, table))
        mirror.drain()
        expected = mirror_rows(path, tailed.database, table)
        if refused is not None:
            with pytest.raises(ConsumeError, match=refused):
                mirror.move(first)
            assert mirror.drain().changes == 0, "nothing was moved"
        else:
            mirror.move(first)
            assert mirror.drain().changes == len(tailed.rows(table))
            assert mirror_rows(path, tailed.database, table) == expected
        mirror.move(first, rebuild=True)
        assert mirror_rows(path, tailed.database, table) == expected, "it was never away"
        assert mirror.drain().changes == len(tailed.rows(table))
        assert mirror_rows(path, tailed.database, table) == expected


def test_a_mirror_that_cannot_be_rebuilt_stays_unchanged(tailed: TailedWorkload, tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    mirror = RewoundConsumer(tailed, path, "customers", partial(Mirror, path, tailed.database, "customers"))
    mirror.drain()
    expected = mirror_rows(path, tailed.database, "customers")
    away = replace(tailed, config=replace(tailed.config, port=1, connect_timeout_s=0.5))
    mirror.tailed = away
    with pytest.raises(SourceError):
        mirror.move(f"seq:{first_sequence(tailed)}", rebuild=True)
    assert mirror_rows(path, tailed.database, "customers") == expected
    mirror.tailed = tailed
    assert mirror.drain().changes == 0, "nothing was moved"


def test_a_position_that_is_not_in_the_stream_is_refused(tailed: TailedWorkload, customers: RewoundConsumer) -> None:
    with pytest.raises(PositionError, match=r"dropped changes after oldest.*this table from 20.*binlogs start"):
        customers.move("oldest")
    with pytest.raises(PositionError, match=r"seq:9999999: the stream of .* has sequences 1 to \d+ now"):
        customers.move("seq:9999999")
    with pytest.raises(ConfigError, match="'nonsense' is not a bookmark"):
        customers.move("nonsense")
    sources = ChangeSources(tailed.source, tailed.config, None, MemoryPositionStore())
    with pytest.raises(PositionError, match="there is no stream"):
        rewind(sources, TableProgress(DuckStore(customers.path)), RewindRequest(key=customers.key, to="head"))


def first_sequence(tailed: TailedWorkload) -> int:
    with tailed.sources("customers") as sources:
        stream = sources.stream
        assert isinstance(stream, StreamRangeReader)
        return stream.bounds()[0]
