"""The chunks of one table: what discards them, and when they are read again. A stand-in reads nothing."""

from __future__ import annotations

from typing import cast

from binlogsync.position import Checkpoint
from binlogsync.tail.snapshot_reader import OpenedTable, ReadFailure, ReadResult, SnapshotReader
from binlogsync.tail.snapshot_table import TableChunks
from binlogsync.tail.snapshot_window import KeyedChunk, number_rows
from tests.tail.test_snapshot_window import AT, NAMES, batch_of, row


class Orders:
    """Orders that are given, and results that the test gives back."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.results: list[tuple[int, ReadResult]] = []

    def open(self, table: tuple[str, str], condition: str | None) -> int:
        self.given.append("open")
        return len(self.given)

    def read(self, low: Checkpoint, after: tuple[str, ...] | None) -> int:
        self.given.append("read")
        return len(self.given)

    def take(self) -> tuple[int, ReadResult] | None:
        return self.results.pop(0) if self.results else None

    def answer(self, result: ReadResult) -> None:
        """The result of the last order."""
        self.results.append((len(self.given), result))


def opened() -> tuple[TableChunks, Orders]:
    """A table whose first chunk is being read."""
    orders = Orders()
    chunks = TableChunks(cast(SnapshotReader, orders), ("shop", "t"), None)
    chunks.give_order(AT, (), 0.0)
    orders.answer(OpenedTable(NAMES, "o", 3, ("k", "d", "v")))
    chunks.take_results(0.0)
    chunks.give_order(AT, (), 0.0)
    assert orders.given == ["open", "read"]
    return chunks, orders


def chunk_of(*keys: str) -> KeyedChunk:
    rows = [batch_of("r" * len(keys), [None] * len(keys), [row(key) for key in keys])]
    return KeyedChunk(rows, number_rows(rows, NAMES), ("'z'",), lambda batch: ("'z'",), True, AT)


def test_a_partial_image_fails_the_table() -> None:
    chunks, orders = opened()
    chunks.touch(batch_of("u", [row("a")], [{"k": "a", "d": None}], absent=("v",)))
    assert "lacks v): a row" in str(chunks.failure)
    assert "set it to FULL" in str(chunks.failure)
    orders.answer(ReadFailure("old", is_final=False))
    assert not chunks.is_watching


def test_whole_images_do_not() -> None:
    chunks, orders = opened()
    chunks.touch(batch_of("ud", [row("a"), row("b")], [row("a", 2), None]))
    orders.answer(chunk_of("a", "b", "c"))
    chunks.take_results(0.0)
    assert chunks.failure is None
    assert chunks.take(10, 1 << 20)[1].data.column("after").field("k").to_pylist() == ["c"]
