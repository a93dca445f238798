"""What an Arrow IPC stream says of itself before its data is read: whether buffers are compressed.

A compressed buffer states its own size, so a few bytes of a message can ask for any amount of memory. binlogsync writes
none. Arrow's Python API does not report it, so the flatbuffer of each message is looked at: the table RecordBatch has a
field `compression`, the fourth.
"""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from

import pyarrow as pa

_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_DICTIONARY_DATA = 1
_COMPRESSION = 3


def is_compressed(message: bytes | pa.Buffer) -> bool:
    """True when a batch of the stream has compressed buffers. Raises ValueError and pa.ArrowException for none."""
    reader = pa.ipc.MessageReader.open_stream(message)
    while True:
        try:
            metadata = reader.read_next_message().metadata
        except StopIteration:
            return False
        try:
            if _has_compression(metadata):
                return True
        except StructError as error:
            raise ValueError(f"a message whose flatbuffer is damaged: {error}") from error


def _has_compression(metadata: pa.Buffer) -> bool:
    view = memoryview(metadata)
    message = unpack_from("<I", view, 0)[0]
    kind_at = _field(view, message, _HEADER_TYPE)
    kind = view[kind_at] if kind_at else 0
    batch = _table(view, message, _HEADER)
    if batch and kind == _DICTIONARY_BATCH:
        batch = _table(view, batch, _DICTIONARY_DATA)
    return bool(batch and kind in (_DICTIONARY_BATCH, _RECORD_BATCH) and _field(view, batch, _COMPRESSION))


def _field(view: memoryview, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table is; 0 when it has none."""
    vtable = table - int(unpack_from("<i", view, table)[0])
    if 4 + 2 * number >= unpack_from("<H", view, vtable)[0]:
        return 0
    offset = int(unpack_from("<H", view, vtable + 4 + 2 * number)[0])
    return table + offset if offset else 0


def _table(view: memoryview, table: int, number: int) -> int:
    """Where the table is that a field refers to; 0 when it has none."""
    at = _field(view, table, number)
    return at + int(unpack_from("<I", view, at)[0]) if at else 0
