"""The changes delivered after a restart at a checkpoint: the log is read again, and stored changes are skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from binlogsync.binlog.reader import DecodedRange
from binlogsync.change import RowChange
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.servers.database import DatabaseServer
from binlogsync.tail.accumulate import Accumulator, FlushRules
from tests.binlog.dump import DumpRecording, changes_of, raw_dump


def flush_of(ranges: Sequence[DecodedRange], start: Checkpoint) -> Flush:
    """All ranges as one flush."""
    pending = Accumulator("tests", FlushRules(), start, 0.0)
    for decoded_range in ranges:
        pending.add(decoded_range, 0.0)
    flush = pending.cut("rows", 0.0)
    assert flush is not None
    return flush


def checkpoints(flush: Flush) -> Iterator[Checkpoint]:
    """The checkpoint after each change, in order, as stored."""
    rows = [
        row
        for batch in flush.batches
        if batch.ddl is None
        for row in batch.data.select(["seq", "order", "ts_us"]).to_pylist()
    ]
    for row in sorted(rows, key=lambda row: row["seq"]):
        found = flush.checkpoint_at(row["seq"], row["order"], int(row["ts_us"].timestamp() * 1_000_000))
        yield Checkpoint.from_text(found.to_text())


def delivered(server: DatabaseServer, recording: DumpRecording, checkpoint: Checkpoint) -> list[RowChange]:
    """The changes that a sink with this checkpoint receives after a restart."""
    begin = checkpoint.read_start()
    done = replace(recording, raw=raw_dump(server, begin), start=begin).decoded()
    assert done.error is None, done.error
    return changes_of([flush_of(done.ranges, begin).without_stored(checkpoint)] if done.ranges else [])
