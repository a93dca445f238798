"""Reused memory: its former contents must never be visible."""

from __future__ import annotations

import gc

import numpy as np
import pyarrow as pa
import pytest

from binlogsync.binlog import arena, layout
from binlogsync.binlog.arena import Arena
from tests.binlog.captured import NAMES, load, summary
from tests.binlog.dump import changes_of


def test_memory_is_reused_once_no_buffer_refers_to_it() -> None:
    first = Arena(4096, "comes back")
    address = first.take(100)
    buffer = first.buffer(address, 100)
    view = first.view(address, 25, np.int32)
    del first
    assert Arena(4096, "comes back").take(1) != address
    kept = pa.Array.from_buffers(pa.int8(), 10, [None, buffer.slice(0, 10)])
    del buffer, view
    assert Arena(4096, "comes back").take(1) != address
    del kept
    gc.collect()
    taken = [Arena(4096, "comes back") for _ in range(3)]
    assert address in [other.take(1) for other in taken]
    assert address not in [Arena(4096, "another shape").take(1) for _ in range(3)]


def test_no_more_than_the_reserved_memory_is_allocated() -> None:
    small = Arena(128)
    small.take(65)
    with pytest.raises(AssertionError, match="reserved"):
        small.take(1)


def test_the_pool_is_bounded() -> None:
    for number in range(arena._KEPT + 20):  # noqa: SLF001
        used = Arena(1 << 20, number)
        used.record_written(1 << 20)
        del used
    pool = arena._POOL  # noqa: SLF001
    Arena(64, "the next")
    assert sum(decoded_range.written for decoded_range in pool._free) <= arena._KEPT_BYTES  # noqa: SLF001
    assert len(pool._free) <= arena._KEPT  # noqa: SLF001


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("old", [0x00, 0xA5, 0xFF])
def test_former_contents_of_memory_are_never_visible(name: str, old: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class DirtyArena(Arena):
        def __init__(self, size: int, shape: object = None) -> None:
            super().__init__(size, (shape, "dirty"))
            self.view(self._address, size, np.uint8).fill(old)

    monkeypatch.setattr(layout, "Arena", DirtyArena)
    golden = load(name)
    ranges = golden.recording.decoded().ranges
    assert [summary(change) for change in changes_of(ranges)] == golden.expected
    for decoded_range in ranges:
        for batch in decoded_range.batches:
            batch.data.validate(full=True)
            assert _hidden_bytes(batch.data) == 0


def _hidden_bytes(data: pa.RecordBatch) -> int:
    """The number of NULLs of fixed width whose bytes are not zero."""
    found = 0
    for image in ("before", "after"):
        for column in data.column(image).flatten():
            kind = column.type
            if pa.types.is_primitive(kind) and not pa.types.is_boolean(kind) and column.null_count:
                width = kind.bit_width // 8
                values = np.frombuffer(column.buffers()[1], np.uint8)[: width * len(column)].reshape(-1, width)
                found += int(values[np.asarray(column.is_null())].any(axis=1).sum())
    return found
