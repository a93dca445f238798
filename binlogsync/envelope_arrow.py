"""A ChangeBatch as an Arrow IPC stream, and back: the `arrow` format of the stream."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.errors import WireError
from binlogsync.schema import TableSchema

_DOCUMENT, _SERVER_UUID, _SERVER_ID, _IMPOSSIBLE = b"cdc.schema", b"cdc.server_uuid", b"cdc.server_id", "impossible."


def encode_arrow(batch: ChangeBatch) -> bytes:
    """The batch as an Arrow IPC stream that needs nothing else to be read: table schema and server are in its metadata.

    Texts of impossible dates are further columns, "impossible.before.<column>".
    """
    data = batch.data
    for (image, column), texts in batch.impossible.items():
        data = data.append_column(f"{_IMPOSSIBLE}{image}.{column}", texts)
    metadata = {
        _DOCUMENT: batch.schema.to_json().encode(),
        _SERVER_UUID: batch.server_uuid.encode(),
        _SERVER_ID: str(batch.server_id).encode(),
    }
    data = data.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_batch(data)
    return bytes(sink.getvalue())


def decode_arrow(message: bytes) -> ChangeBatch:
    """The batch that encode_arrow wrote; raises WireError."""
    try:
        with pa.ipc.open_stream(message) as reader:
            data = reader.read_next_batch()
        metadata = data.schema.metadata or {}
        schema = TableSchema.from_json(metadata[_DOCUMENT])
        server_uuid, server_id = metadata[_SERVER_UUID].decode(), int(metadata[_SERVER_ID])
    except (pa.ArrowException, OSError, StopIteration, KeyError, ValueError) as error:
        raise WireError(
            f"a message of {len(message)} bytes is no Arrow stream that binlogsync writes: {error!r}"
        ) from error
    impossible: dict[Any, pa.StringArray] = {}
    for name in data.schema.names:
        if name.startswith(_IMPOSSIBLE):
            image, column = name.removeprefix(_IMPOSSIBLE).split(".", 1)
            impossible[image, column] = data.column(name)
    own = [name for name in data.schema.names if not name.startswith(_IMPOSSIBLE)]
    return ChangeBatch(schema, data.select(own).replace_schema_metadata(None), server_uuid, server_id, impossible)
