"""The chunks of one table: what discards them, and when they are read again. A stand-in reads nothing."""

from __future__ import annotations

from typing import cast

import pymysql
import pytest

from binlogsync.errors import SourceError
from binlogsync.mysql.table_errors import is_outage
from binlogsync.position import Checkpoint
from binlogsync.tail import snapshot_table
from binlogsync.tail.snapshot_reader import OpenedTable, ReadFailure, ReadResult, SnapshotReader
from binlogsync.tail.snapshot_table import TableChunks
from binlogsync.tail.snapshot_window import KeyedChunk, number_rows
from tests.tail.test_snapshot_window import AT, NAMES, batch_of, row


class Orders:
    """Orders that are given, and results that the test gives back."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.is_idle = True
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
    chunks.take_results()
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
    chunks.take_results()
    assert chunks.failure is None
    assert chunks.take(10, 1 << 20)[1].data.column("after").field("k").to_pylist() == ["c"]


def test_a_discarded_chunk_is_read_after_the_one_before_and_a_pause() -> None:
    chunks, orders = opened()
    orders.is_idle = False
    chunks.discard("because")
    assert not chunks.is_watching
    for now_s in (0.0, 1.0, 2.0):
        chunks.give_order(AT, (), now_s)
    assert len(orders.given) == 2
    orders.is_idle = True
    chunks.give_order(AT, (), 3.0)
    assert (chunks.retry_s, orders.given) == (0.2, ["open", "read", "read"])
    chunks.discard("because")
    chunks.give_order(AT, (), 4.0)
    assert (chunks.retry_s, len(orders.given)) == (4.4, 3)


def test_chunks_that_are_discarded_again_and_again_are_reported() -> None:
    chunks, orders = opened()
    for number in range(1, 7):
        assert chunks.trouble == ""
        orders.answer(chunk_of("a"))
        chunks.take_results()
        chunks.discard("because")
        chunks.give_order(AT, (), number * 100.0)
        chunks.give_order(AT, (), number * 100.0 + 50)
    assert chunks.trouble == "because, and nothing was published since 6 chunks; reading it again"
    orders.answer(chunk_of("a"))
    chunks.take_results()
    assert chunks.trouble.startswith("because")
    chunks.take(10, 1 << 20)
    assert chunks.trouble == ""


def test_the_keys_that_are_noted_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_table, "_MOST_KEYS", 3)
    chunks, orders = opened()
    chunks.touch(batch_of("ddd", [row("a"), row("b"), row("c")], [None] * 3))
    orders.answer(chunk_of("a", "x"))
    chunks.touch(batch_of("ddd", [row("d"), row("e"), row("f")], [None] * 3))  # takes the chunk first
    assert chunks.take(10, 1 << 20)[1].data.column("after").field("k").to_pylist() == ["x"]
    chunks, orders = opened()
    chunks.touch(batch_of("dddd", [row(key) for key in "abcd"], [None] * 4))
    assert not chunks.is_watching
    assert chunks.trouble.startswith("more than 3 rows changed while a chunk was read")


def test_outages_do_not_count_as_tries() -> None:
    chunks, orders = opened()

    def fail(*, is_outage: bool) -> None:
        orders.answer(ReadFailure("because", is_final=False, is_outage=is_outage))
        chunks.take_results()
        chunks.give_order(AT, (), chunks.retry_s + 100)
        chunks.give_order(AT, (), chunks.retry_s)

    for passes in [True] * 20 + [False] * 5 + [True] * 20:
        fail(is_outage=passes)
    assert chunks.failure is None
    assert chunks.trouble == "because"
    fail(is_outage=False)
    assert chunks.failure == "because"


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, False),
        (ValueError("a row"), False),
        (ConnectionRefusedError(), True),
        (pymysql.InterfaceError(0, ""), True),
        *[(pymysql.OperationalError(code, "x"), True) for code in (1040, 1053, 1226, 1317, 2013, 3024)],
        (pymysql.OperationalError(1205, "x"), False),
    ],
)
def test_what_passes_by_itself_is_an_outage(cause: Exception | None, expected: bool) -> None:
    error = SourceError("the source")
    error.__cause__ = cause
    assert is_outage(error) is expected
