"""A ChangeBatch as an Arrow IPC stream, and back: the `arrow` format of the stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from binlogsync.change import NAME_TYPE, ChangeBatch
from binlogsync.errors import WireError
from binlogsync.schema import TableSchema

_DOCUMENT, _SERVER_UUID, _SERVER_ID, _IMPOSSIBLE = b"cdc.schema", b"cdc.server_uuid", b"cdc.server_id", "impossible."


def encode_arrow(batch: ChangeBatch) -> pa.Buffer:
    """The batch as an Arrow IPC stream that needs nothing else to be read; the buffer can be used as bytes are."""
    data = to_arrow(batch)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_batch(data)
    return sink.getvalue()


def to_arrow(batch: ChangeBatch) -> pa.RecordBatch:
    """The batch as one that needs nothing else to be read: table schema and server are in its metadata.

    Texts of impossible dates are further columns, "impossible.before.<column>".
    """
    data = _compact(batch.data)
    for (image, column), texts in batch.impossible.items():
        data = data.append_column(f"{_IMPOSSIBLE}{image}.{column}", texts)
    metadata = {
        _DOCUMENT: batch.schema.to_json().encode(),
        _SERVER_UUID: batch.server_uuid.encode(),
        _SERVER_ID: str(batch.server_id).encode(),
    }
    return data.replace_schema_metadata(metadata)


def _compact(data: pa.RecordBatch) -> pa.RecordBatch:
    """The same with only the names that are used: a slice brings all GTIDs of the batch that it was cut from."""
    for position, field in enumerate(data.schema):
        if field.type == NAME_TYPE:
            data = data.set_column(position, field, _compact_names(data.column(position)))
    return data


def _compact_names(names: pa.DictionaryArray) -> pa.DictionaryArray:
    indices = names.indices
    if len(names.dictionary) <= 1 or indices.null_count:
        return names
    numbers = indices.to_numpy()
    first, last = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, -1)
    if last - first < 2 * len(numbers):
        own = names.dictionary.slice(first, last - first + 1)
        return pa.DictionaryArray.from_arrays(pa.array(numbers - first, pa.int32()), own)
    used, numbers = np.unique(numbers, return_inverse=True)
    own = names.dictionary.take(pa.array(used))
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), own)


def decode_arrow(message: bytes | pa.Buffer) -> ChangeBatch:
    """The batch that encode_arrow wrote; raises WireError."""
    try:
        with pa.ipc.open_stream(message) as reader:
            return from_arrow(reader.read_next_batch())
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise WireError(
            f"a message of {len(message)} bytes is no Arrow stream that binlogsync writes: {error!r}"
        ) from error


def from_arrow(data: pa.RecordBatch) -> ChangeBatch:
    """The batch that to_arrow wrote; raises WireError."""
    try:
        metadata = data.schema.metadata or {}
        schema = TableSchema.from_json(metadata[_DOCUMENT])
        server_uuid, server_id = metadata[_SERVER_UUID].decode(), int(metadata[_SERVER_ID])
    except (KeyError, ValueError) as error:
        raise WireError(f"{len(data)} rows are no changes that binlogsync writes: {error!r}") from error
    impossible: dict[Any, pa.StringArray] = {}
    for name in data.schema.names:
        if name.startswith(_IMPOSSIBLE):
            image, column = name.removeprefix(_IMPOSSIBLE).split(".", 1)
            impossible[image, column] = data.column(name)
    own = [name for name in data.schema.names if not name.startswith(_IMPOSSIBLE)]
    return ChangeBatch(schema, data.select(own).replace_schema_metadata(None), server_uuid, server_id, impossible)
