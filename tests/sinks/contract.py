"""Contract tests of sinks. The test file of a sink defines a `Harness` fixture named `harness`, and a subclass of
`SinkContract`.
"""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from tests.samples import SampleOptions, SampleSource, SampleTransaction

Stored = list[tuple[str, int, int, int, str]]
"""Changes as (file, txn_pos, order, row, op), in binlog order."""


class Harness(Protocol):
    """Creates sinks with one empty destination, and reads what they stored there."""

    source: str

    def sink(self) -> Sink:
        """A new sink, not opened, with the same destination."""

    def stored(self) -> Stored:
        """All changes stored, of all tables, in binlog order."""


def coordinates(flush: Flush) -> Stored:
    """The changes of a flush, in binlog order, as `Harness.stored` returns them."""
    rows: list[dict[str, Any]] = []
    for batch in flush.batches:
        rows += batch.data.select(["seq", "file", "txn_pos", "order", "row", "op"]).to_pylist()
    rows.sort(key=lambda row: row["seq"])
    return [(row["file"], row["txn_pos"], row["order"], row["row"], row["op"]) for row in rows]


class SinkContract:
    """The contract tests."""

    @pytest.fixture
    def samples(self, harness: Harness) -> SampleSource:
        return SampleSource(SampleOptions(source=harness.source))

    def test_a_new_place_has_no_checkpoint(self, harness: Harness) -> None:
        sink = harness.sink()
        assert sink.open(harness.source) is None
        sink.close()

    def test_what_is_written_is_stored_with_its_checkpoint(self, harness: Harness, samples: SampleSource) -> None:
        sink, expected = harness.sink(), Stored()
        sink.open(harness.source)
        for _ in range(3):
            flush = samples.flush(5)
            sink.write(flush)
            expected += coordinates(flush)
        sink.close()
        assert harness.stored() == expected
        assert _reopened(harness) == samples.checkpoint

    def test_a_flush_without_changes_moves_the_checkpoint(self, harness: Harness, samples: SampleSource) -> None:
        sink = harness.sink()
        sink.open(harness.source)
        first = samples.flush(2)
        sink.write(first)
        empty = samples.flush([SampleTransaction((None, None))])
        assert empty.changes == 0
        sink.write(empty)
        sink.close()
        assert harness.stored() == coordinates(first)
        assert _reopened(harness) == samples.checkpoint

    def test_a_flush_without_changes_may_come_first(self, harness: Harness, samples: SampleSource) -> None:
        sink = harness.sink()
        sink.open(harness.source)
        sink.write(samples.flush([SampleTransaction((None,))]))
        sink.close()
        assert harness.stored() == []
        assert _reopened(harness) == samples.checkpoint

    def test_a_transaction_in_pieces(self, harness: Harness, samples: SampleSource) -> None:
        sink, expected = harness.sink(), Stored()
        sink.open(harness.source)
        for plan in ([SampleTransaction((0, 1) * 10, take=7)], [], 1):
            flush = samples.flush(plan)
            sink.write(flush)
            expected += coordinates(flush)
            assert _reopened(harness) == flush.checkpoint
            sink.close()
            sink.open(harness.source)
        sink.close()
        assert harness.stored() == expected

    def test_a_restart_goes_on_where_the_sink_is(self, harness: Harness, samples: SampleSource) -> None:
        sink = harness.sink()
        sink.open(harness.source)
        one, two = samples.flush(4), samples.flush(4)
        sink.write(one)
        sink.close()
        again = harness.sink()
        checkpoint = again.open(harness.source)
        rest = two.without_stored(checkpoint)
        assert one.without_stored(checkpoint).changes == 0
        again.write(rest)
        again.close()
        assert harness.stored() == coordinates(one) + coordinates(two)

    def test_a_large_flush_of_several_tables_stays_in_order(self, harness: Harness, samples: SampleSource) -> None:
        sink = harness.sink()
        sink.open(harness.source)
        flush = samples.flush(600)  # 1,199 changes: more than an atomic batch of JetStream
        sink.write(flush)
        sink.close()
        assert harness.stored() == coordinates(flush)

    def test_closing_twice_is_fine(self, harness: Harness) -> None:
        sink = harness.sink()
        sink.open(harness.source)
        sink.close()
        sink.close()


def _reopened(harness: Harness) -> Checkpoint | None:
    sink = harness.sink()
    checkpoint = sink.open(harness.source)
    sink.close()
    return checkpoint
