"""A ChangeBatch as an Arrow IPC stream, and back: the `arrow` format of the stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import OPS
from binlogsync.change_batch import NAME_TYPE, OP_TYPE, SOURCE_FIELDS, ChangeBatch
from binlogsync.codec.arrow_compression import is_compressed
from binlogsync.errors import WireError, excerpt
from binlogsync.schema import TableSchema, arrow_type

_DOCUMENT, _SERVER_UUID, _SERVER_ID, _IMPOSSIBLE = b"cdc.schema", b"cdc.server_uuid", b"cdc.server_id", "impossible."


def encode_arrow(batch: ChangeBatch) -> pa.Buffer:
    """The batch as a self-contained Arrow IPC stream; the buffer can be used like bytes."""
    data = to_arrow(batch)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_batch(data)
    return sink.getvalue()


def to_arrow(batch: ChangeBatch) -> pa.RecordBatch:
    """The batch as a self-contained record batch: table schema and server are in its metadata.

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
    """The batch with only the names that it uses: a slice keeps all GTIDs of the batch that it was cut from."""
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
        if is_compressed(message):
            raise ValueError("its buffers are compressed")
        with pa.ipc.open_stream(message) as reader:
            data = reader.read_next_batch()
            if next(iter(reader), None) is not None:
                raise ValueError("it has more than one batch")
        data.validate()
        data = _without_empty_dictionaries(data)
        data.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration, ValueError, TypeError, KeyError) as error:
        raise WireError(
            f"a message of {len(message)} bytes is not an Arrow stream written by binlogsync: {excerpt(str(error))}"
        ) from error
    return from_arrow(data)


def _without_empty_dictionaries(data: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with NULL for labels of an ENUM without labels in NULL images, because they refer to no value.

    Raises ValueError for such a label in an image that is not NULL.
    """
    for position, field in enumerate(data.schema):
        struct = data.column(position)
        if not pa.types.is_struct(field.type):
            continue
        children = [struct.field(number) for number in range(field.type.num_fields)]
        empty = [pa.types.is_dictionary(child.type) and not len(child.dictionary) for child in children]
        if not any(empty):
            continue
        present = struct.is_valid()
        for number, child in enumerate(children):
            if empty[number]:
                if pc.any(pc.and_(present, child.is_valid())).as_py():
                    raise ValueError(f"{field.name}.{field.type[number].name} has labels, and its ENUM has none")
                children[number] = pa.nulls(len(child), child.type)
        own = pa.StructArray.from_arrays(children, fields=list(field.type), mask=struct.is_null())
        data = data.set_column(position, field, own)
    return data


def from_arrow(data: pa.RecordBatch) -> ChangeBatch:
    """The batch that to_arrow wrote; raises WireError."""
    try:
        metadata = data.schema.metadata or {}
        schema = TableSchema.from_json(metadata[_DOCUMENT])
        server_uuid, server_id = metadata[_SERVER_UUID].decode(), int(metadata[_SERVER_ID])
        _check_columns(data, schema)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise WireError(f"{len(data)} rows are not changes written by binlogsync: {excerpt(str(error))}") from error
    impossible: dict[Any, pa.StringArray] = {}
    for name in data.schema.names:
        if name.startswith(_IMPOSSIBLE):
            image, column = name.removeprefix(_IMPOSSIBLE).split(".", 1)
            impossible[image, column] = data.column(name)
    own = [name for name in data.schema.names if not name.startswith(_IMPOSSIBLE)]
    return ChangeBatch(schema, data.select(own).replace_schema_metadata(None), server_uuid, server_id, impossible)


def _check_columns(data: pa.RecordBatch, schema: TableSchema) -> None:
    """Raise ValueError if the columns are not those of changes of the table, or a required column is missing."""
    types = {column.name: arrow_type(column) for column in schema.columns}
    names = [name for name in data.schema.names if not name.startswith(_IMPOSSIBLE)]
    wanted = ["op", "before", "after", *(field.name for field in SOURCE_FIELDS)]
    if names != wanted:
        raise ValueError(f"the columns are {names} and must be {wanted}")
    for image in ("before", "after"):
        kind = data.schema.field(image).type
        if not pa.types.is_struct(kind) or any(types.get(child.name) != child.type for child in kind):
            raise ValueError(f"{image} is {kind}, which is not an image of {schema.name}")
    for field in (pa.field("op", OP_TYPE), *SOURCE_FIELDS):
        column = data.column(field.name)
        if column.type != field.type or (column.null_count and field.name != "gtid"):
            raise ValueError(f"{field.name} is {column.type} with {column.null_count} NULLs and must be {field.type}")
    if not set(data.column("op").dictionary.to_pylist()) <= set(OPS):
        raise ValueError(f"op is one of {data.column('op').dictionary.to_pylist()}")
    texts = [name for name in data.schema.names if name.startswith(_IMPOSSIBLE)]
    for name in texts:
        image, _, column = name.removeprefix(_IMPOSSIBLE).partition(".")
        if image not in ("before", "after") or column not in types or data.schema.field(name).type != pa.string():
            raise ValueError(f"column {name} belongs to no column of {schema.name}")
    if len(set(texts)) != len(texts):
        raise ValueError("columns of one name")
