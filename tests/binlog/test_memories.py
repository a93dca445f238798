"""Row events in several memories: no byte after one of them is read, if it may not exist."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from binlogsync.binlog.layout import Layout
from binlogsync.binlog.memory import address
from binlogsync.binlog.row_parts import Memories
from binlogsync.binlog.tablemap import VARCHAR, RawColumn, TableMap
from binlogsync.schema import Column, TableSchema

_PAGE = mmap.PAGESIZE
_TEXT = b"a text that is longer than a step of copying, which has sixty-four bytes"


def _layout() -> Layout:
    column = Column("t", "varchar", length=100, charset="utf8mb4")
    table = TableMap(1, TableSchema("shop", "t", (column,)), (RawColumn(VARCHAR, 100),), True)
    return Layout.of(table, ((0,), (0,)), captured=True)


def read_two_memories() -> list[str]:
    """The rows of an event at the end of a page that no readable one follows, and of one at a higher address."""
    event = bytes([0, len(_TEXT)]) + _TEXT
    pages = np.frombuffer(mmap.mmap(-1, 4 * _PAGE), np.uint8)
    first, second = _PAGE - len(event), 2 * _PAGE
    for at in (first, second):
        pages[at : at + len(event)] = np.frombuffer(event, np.uint8)
    base = address(pages)
    assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(base + _PAGE), _PAGE, 0) == 0
    starts = np.array([base + first, base + second])
    memories = Memories([pages[second : 2 * second]])
    assert not memories.are_one(starts)
    ops = np.zeros(2, np.int8)
    part = _layout().decode(0, starts, starts + len(event), ops, is_one_memory=memories.are_one(starts))
    texts: pa.Array = part.images[1].field("t")
    return [str(text) for text in texts.to_pylist()]


@pytest.mark.slow
def test_no_byte_after_an_event_is_read() -> None:
    code = "from tests.binlog.test_memories import read_two_memories; print(len(read_two_memories()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr


@pytest.mark.parametrize(
    ("places", "are_one"),
    [
        ([(0, 10), (0, 20)], True),
        ([(1, 10), (1, 20)], True),
        ([(0, 10), (1, 20)], False),
        ([(1, 0), (2, 0)], False),
        ([(2, 99), (None, 0)], False),
        ([], True),
    ],
)
def test_events_in_one_memory(places: list[tuple[int | None, int]], are_one: bool) -> None:
    memory = np.zeros(1000, np.uint8)
    bounds = {1: 300, 2: 600}
    kept = [memory[begin : begin + 100] for begin in bounds.values()]
    at = [address(memory) + (700 if n is None else bounds.get(n, 0)) + offset for n, offset in places]
    assert Memories(kept).are_one(np.array(at, np.int64)) == are_one
    assert Memories([]).are_one(np.array(at, np.int64))
