"""Which rows of a chunk a window leaves out, and in which slices it gives the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from binlogsync.change import ImageName
from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.codec.snapshot_state import FIRST_ORDINAL, SnapshotState
from binlogsync.errors import WireError
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.schema import Column, TableSchema
from binlogsync.tail.snapshot_rows import publish
from binlogsync.tail.snapshot_window import KeyedChunk, UnknownKeyError, Window, changed_keys, number_rows

SCHEMA = TableSchema(
    "shop", "t", (Column("k", "varchar", length=9), Column("d", "date"), Column("v", "int")), ("k", "d")
)
NAMES = ("k", "d")
AT = Checkpoint(BinlogPosition("binlog.000002", 99), "server")
DAY = date(2024, 1, 1)


def batch_of(ops: str, before: list[Any], after: list[Any], absent: tuple[str, ...] = ()) -> ChangeBatch:
    """Changes with these images; the images after lack the columns `absent`."""
    count = len(ops)
    whole = SCHEMA.image_type()
    partial = SCHEMA.image_type(tuple(c.name for c in SCHEMA.columns if c.name not in absent))
    source = {
        name: [value] * count
        for name, value in
        {"ts_us": 0, "gtid": None, "file": "b.1", "pos": 4, "row": 0, "txn_pos": 4, "order": 0, "seq": 0}.items()
    }  # fmt: skip
    images = (pa.array(before, whole), pa.array(after, partial))
    return build_batch(SCHEMA, list(ops), images, source, ("server", 1))


def row(k: str, v: int = 0, d: date | None = DAY) -> dict[str, Any]:
    return {"k": k, "d": d, "v": v}


def window_of(*batches: list[str]) -> Window:
    window = Window()
    rows = [batch_of("r" * len(keys), [None] * len(keys), [row(key) for key in keys]) for keys in batches]
    window.fill(KeyedChunk(rows, number_rows(rows, NAMES), ("'z'",), lambda batch: ("'z'",), True, AT))
    return window


def kept(window: Window, count: int = 100) -> list[list[str]]:
    found = []
    while not window.is_over:
        _, batch = window.take(count, 1 << 20)
        found.append(batch.data.column("after").field("k").to_pylist())
    return found


def test_rows_come_in_slices_within_their_batches() -> None:
    assert kept(window_of(["a", "b", "c"], ["d", "e"]), 2) == [["a", "b"], ["c"], ["d", "e"]]
    assert kept(window_of([])) == [[]]


def test_keys_before_and_after_each_change_are_left_out() -> None:
    changes = batch_of("ucdt", [row("a"), None, row("d"), None], [row("b"), row("c"), None, None])
    early = Window()
    early.touch(changed_keys(changes, NAMES))
    late = window_of(["a", "b"], ["c", "d", "e"])
    early.fill(late.chunk) if late.chunk is not None else None
    assert kept(early) == [[], ["e"]]
    assert late.take(1, 1 << 20)[1].data.num_rows == 1  # "a" is published, and changes then
    late.touch(changed_keys(changes, NAMES))
    assert kept(late) == [[], ["e"]]


def test_the_case_of_a_key_matters() -> None:
    """Delete 'a' and insert 'A': a chunk has one of them, and both are noted."""
    changes = batch_of("dc", [row("a"), None], [None, row("A")])
    for shown in "aA":
        window = window_of([shown, "b"])
        window.touch(changed_keys(changes, NAMES))
        assert kept(window) == [["b"]]


def test_a_partial_image_has_the_other_columns_of_the_image_before() -> None:
    changes = batch_of("u", [row("a")], [{"k": "b", "v": 1}], absent=("d",))
    assert list(changed_keys(changes, NAMES)) == [("a", DAY), ("b", DAY)]
    with pytest.raises(UnknownKeyError):
        list(changed_keys(batch_of("c", [None], [{"k": "b", "v": 1}], absent=("d",)), NAMES))


def test_a_date_that_python_has_not_is_a_key() -> None:
    """It is the text, in chunks and in changes."""
    zero: dict[tuple[ImageName, str], pa.StringArray] = {("after", "d"): pa.array(["0000-00-00", None])}
    rows = replace(batch_of("rr", [None, None], [row("a", d=None), row("b")]), impossible=zero)
    assert number_rows([rows], NAMES) == {("a", "0000-00-00"): 0, ("b", DAY): 1}


def test_two_rows_with_one_key_are_refused() -> None:
    with pytest.raises(UnknownKeyError, match="two rows"):
        number_rows([batch_of("rr", [None, None], [row("a"), row("a")])], NAMES)


def test_published_rows_continue_the_ordinals() -> None:
    rows = batch_of("rr", [None, None], [row("a"), row("b")])
    before = SnapshotState("x1", 2, ("shop", "t"), ("'0'",), "o", FIRST_ORDINAL + 5)
    after = replace(before, key=("'b'",), ordinal=FIRST_ORDINAL + 7)
    found = publish(rows, before, after, lambda part: (f"{len(part)}",), AT, 1_000_000)
    assert found.batch is not None
    assert [change.id for change in found.batch.changes()] == [f"snapshot:x1:{FIRST_ORDINAL + n}" for n in (5, 6)]
    place = {name: found.batch.data.column(name).to_pylist() for name in ("file", "pos", "txn_pos", "seq")}
    assert place == {"file": ["binlog.000002"] * 2, "pos": [99, 99], "txn_pos": [99, 99], "seq": [0, 1]}
    assert found.progress.text == after.to_text()
    assert found.progress.after is not None
    within = SnapshotState.from_text(found.progress.after(1))
    assert within == replace(before, key=("1",), ordinal=FIRST_ORDINAL + 6)


def test_the_state_is_ascii_and_read_back() -> None:
    state = SnapshotState("x1", 2, ("bücher", "t"), ("_utf8mb4 x'61'", "1"), "0f", 7, True)
    assert state.to_text().isascii()
    assert SnapshotState.from_text(state.to_text()) == state
    for text in ("", "{}", '{"id":1}', state.to_text()[:-1]):
        with pytest.raises(WireError, match="Cdc-Snapshot is"):
            SnapshotState.from_text(text)
