"""Detects compressed buffers in an Arrow IPC stream before its data is read.

A compressed buffer declares its own uncompressed size, so a small message could make the reader allocate any amount of
memory. binlogsync does not compress buffers; a reader refuses messages that do. Arrow's Python API does not report
compression, so the metadata of each IPC message, a flatbuffer, is parsed here.

The tables and their fields are in Arrow's format/Message.fbs.
"""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from

import pyarrow as pa

# Numbers of fields, in the order of their declaration from 0; a union takes two numbers: its type and its value.
_HEADER_TYPE, _HEADER = 1, 2  # of the table Message
_DICTIONARY_DATA = 1  # of DictionaryBatch: its RecordBatch
_COMPRESSION = 3  # of RecordBatch
# Values of the union MessageHeader.
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def is_compressed(message: bytes | pa.Buffer) -> bool:
    """True when a batch of the stream has compressed buffers. Raises ValueError, pa.ArrowException for invalid data."""
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
    """Offset of field `number` of the flatbuffer table at offset `table`; 0 when the table does not have it."""
    vtable = table - int(unpack_from("<i", view, table)[0])
    if 4 + 2 * number >= unpack_from("<H", view, vtable)[0]:
        return 0
    offset = int(unpack_from("<H", view, vtable + 4 + 2 * number)[0])
    return table + offset if offset else 0


def _table(view: memoryview, table: int, number: int) -> int:
    """Offset of the table that field `number` of the table at `table` refers to; 0 when there is none."""
    at = _field(view, table, number)
    return at + int(unpack_from("<I", view, at)[0]) if at else 0
