"""Random ranges of a real workload, with ends in every form, read from the stream and from the binlogs.

The rows of the replay are those that the audit log has for the range.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from binlogsync.bookmarks import Bookmark
from binlogsync.position import Checkpoint
from binlogsync.replay.origin import Origin
from binlogsync.replay.ranges import ReplayRange
from binlogsync.replay.run import ReplayResult, ReplayTask, replay_ranges
from binlogsync.replay.sources import ChangeSources
from binlogsync.replay.targets import MemoryTarget
from tests.e2e.backfill_workload import AuditRow, TailedWorkload, assert_rows, rows_of

KINDS = ("bookmark", "time", "gtid", "position", "sequence", "edge")

pytestmark = [pytest.mark.server, pytest.mark.slow]


class RandomPositions:
    """Random positions of one table: the text of each, and the number of changes before it."""

    def __init__(self, tailed: TailedWorkload, sources: ChangeSources, table: str, chance: random.Random) -> None:
        self.rows = tailed.rows(table)
        self.bookmarks = list(tailed.store.bookmarks.load(tailed.source))
        self._chance = chance
        self._uuid = self.rows[0].row[0].split(":")[0]
        assert sources.stream is not None
        self._stream = sources.stream
        self._held = self._stream.bounds()
        self.edges = ((f"seq:{self._held[0]}", 0), ("head", len(self.rows)))

    def pick(self, kind: str) -> tuple[str, int]:
        if kind == "edge":
            return self._chance.choice(self.edges)
        if kind == "bookmark":
            bookmark = self._chance.choice(self.bookmarks[1:])  # the first lies before all that the stream holds
            return bookmark.key, self.before_bookmark(bookmark)
        if kind == "sequence":
            number = self._chance.randrange(*self._held)
            place = self._stream.checkpoint_of_sequence(number)
            return f"seq:{number}", len(self.rows) if place is None else self._before(place)
        row = self._chance.choice(self.rows)
        if kind == "time":
            moment = row.committed - timedelta(microseconds=self._chance.choice((0, 1, 700)))
            first = next(n for n, other in enumerate(self.rows) if other.committed >= moment)
            return moment.isoformat(), first
        if kind == "gtid":
            return f"{self._uuid}:1-{row.gtid}", self._count(lambda other: other.gtid <= row.gtid)
        place_text = f"binlog.{row.file:06d}:{row.txn_pos}"
        return place_text, self._count(lambda other: (other.file, other.txn_pos) < (row.file, row.txn_pos))

    def before_bookmark(self, bookmark: Bookmark) -> int:
        return self._before(bookmark.checkpoint)

    def _before(self, place: Checkpoint) -> int:
        """The number of changes before a position; an id ends with the number of the change in its transaction."""
        wanted = (place.position.file_number, place.position.pos, place.skip)
        return self._count(lambda row: (row.file, row.txn_pos, int(row.row[0].rpartition(":")[2])) < wanted)

    def _count(self, is_before: Callable[[AuditRow], bool]) -> int:
        return sum(map(is_before, self.rows))


def backfill(
    tailed: TailedWorkload, sources: ChangeSources, table: str, span: ReplayRange, origin: Origin
) -> tuple[ReplayResult, MemoryTarget]:
    target = MemoryTarget()
    done = replay_ranges(ReplayTask(sources, tailed.plan(table, span), target, origin), threading.Event())
    assert done.is_finished
    return done, target


@pytest.mark.parametrize(("seed", "ranges"), [(7, 10), pytest.param(7, 40, marks=pytest.mark.exhaustive)])
def test_random_ranges_equal_the_audit_log_from_the_stream_and_from_the_binlog(
    tailed: TailedWorkload, seed: int, ranges: int
) -> None:
    chance = random.Random(seed)
    sizes: list[int] = []
    used: set[str] = set()
    for number in range(ranges):
        table = ("orders", "visits", "customers")[number % 3]
        with tailed.sources(table) as sources:
            positions = RandomPositions(tailed, sources, table, chance)
            first = last = 0
            if number == 0:
                (start, first), (until, last) = positions.edges
            while first == last:  # between two positions with nothing between them their order is undefined
                kinds = (KINDS[number % len(KINDS)], chance.choice(KINDS))
                used |= set(kinds)
                (start, first), (until, last) = sorted((positions.pick(kind) for kind in kinds), key=lambda end: end[1])
            range_text = f"range {number} of {table}: from {start} until {until}"
            span = sources.resolve_range(start, until)
            expected = [row.row for row in positions.rows[first:last]]
            origins: tuple[Origin, ...] = ("stream", "binlog")
            for origin in origins:
                done, target = backfill(tailed, sources, table, span, origin)
                assert_rows(rows_of(target.batches), expected, f"{range_text}, from the {origin}")
                assert done.changes == len(expected)
                assert done.ranges[0].origin == origin
            sizes.append(len(expected))
    assert used == set(KINDS)
    assert sizes[0] > 1000


def test_each_bookmark_has_its_stream_sequence(tailed: TailedWorkload) -> None:
    bookmarks = tailed.store.bookmarks.load(tailed.source)
    reasons = {bookmark.reason for bookmark in bookmarks}
    assert {"start", "interval", "rotation", "schema"} <= reasons
    assert (bookmarks[0].reason, bookmarks[0].sequence) == ("start", 0)
    with tailed.sources("orders") as sources:
        assert sources.stream is not None
        for bookmark in bookmarks[1:]:
            assert bookmark.sequence is not None
            there = sources.stream.reader.checkpoint_at(bookmark.sequence)
            assert there == bookmark.checkpoint, bookmark
