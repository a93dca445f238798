"""ChangeBatch <-> messages of the stream: the only file that knows the names on the wire.

`render` writes Debezium's envelope, one a change:

    before, after, op, ts_ms, ts_us (when it was processed), transaction {id, total_order (from 1)},
    source {version, connector, name, ts_ms, ts_us (of the commit), snapshot, db, table, server_id, server_uuid, gtid, file,
            pos, row, txn_pos}

`server_uuid` and `txn_pos` are additions, and so is `json_null` of `source`, which names the images' columns that hold the
JSON value null (such a column and a NULL look the same); it is there only where it is needed. `data_collection_order` is
left out: it would need all changes of a transaction at hand, and a transaction may be cut. `parse` reads envelopes back to
equal batches, except for `seq`, which is not on the wire. `encode_arrow` and `decode_arrow` do the same for the other format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import ChangeBatch, Op, build_batch
from binlogsync.errors import WireError
from binlogsync.render import Fragments, render_column
from binlogsync.render.assemble import AFTER, BEFORE, Part, assemble
from binlogsync.render.fragments import validity
from binlogsync.render.labels import render_labels
from binlogsync.render.numbers import render_integers
from binlogsync.render.reading import RAW_TYPES, read_column
from binlogsync.render.text import render_strings
from binlogsync.schema import INTEGER_BITS, Column, TableSchema

CONTENT_TYPE = "Content-Type"
SCHEMA = "Cdc-Schema"
"""Fingerprint of the table's schema; the document is in the source's schema bucket under it."""
CHECKPOINT = "Cdc-Checkpoint"
"""Checkpoint.to_text() behind this message; in the last message of each atomic batch."""
WRITE_ID = "Cdc-Write"
"""Names one attempt of one writer to store one atomic batch; in its last message."""
LARGE_OBJECT = "Cdc-Object"
"""The body is in the source's object store bucket under this name."""
JSON = "application/json"
JSON_LINES = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"

VERSION = "1"
_UNFIT = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class EnvelopeContext:
    """What an envelope says besides the change: name of the source, and when it was processed (microseconds, 1970 UTC)."""

    source: str
    processed_us: int


def render(batch: ChangeBatch, context: EnvelopeContext) -> Fragments:
    """The envelope of each change, in one buffer. Raises WireError for a column type that has no form in JSON."""
    data = batch.data
    gtid, file = data.column("gtid"), data.column("file")
    ts_us = data.column("ts_us").cast(pa.int64()).to_numpy()
    op = data.column("op")
    order = data.column("order").to_numpy() + np.uint64(1)
    connector = "mariadb" if batch.server_uuid.startswith("mariadb:") else "mysql"
    head = {"version": VERSION, "connector": connector, "name": context.source}
    table = {"db": batch.schema.database, "table": batch.schema.table}
    server = {"server_id": batch.server_id, "server_uuid": batch.server_uuid}
    processed = {"ts_ms": context.processed_us // 1000, "ts_us": context.processed_us}
    parts = [
        Part(b'{"before":'),
        *_image_parts(batch, "before"),
        Part(b',"after":'),
        *_image_parts(batch, "after"),
        Part(b',"source":{' + _members(head) + b',"ts_ms":', render_integers(pa.array(ts_us // 1000))),
        Part(b',"ts_us":', render_integers(pa.array(ts_us))),
        Part(b',"snapshot":', render_strings(pc.if_else(pc.equal(op.cast(pa.string()), "r"), "true", "false"))),
        Part(b"," + _members(table) + b"," + _members(server) + b',"gtid":', render_labels(gtid)),
        Part(b',"file":', render_labels(file)),
        *(Part(f',"{name}":'.encode(), render_integers(data.column(name))) for name in ("pos", "row", "txn_pos")),
        *_json_null_parts(batch),
        Part(b'},"op":', render_labels(op)),
        Part(b"," + _members(processed) + b',"transaction":{"id":', _transaction_ids(batch)),
        Part(b',"total_order":', render_integers(pa.array(order))),
        Part(b"}}"),
    ]
    return assemble(len(batch), parts, validity(data.column("before")), validity(data.column("after")))


def _members(values: dict[str, Any]) -> bytes:
    """A JSON object without its braces."""
    return msgspec.json.encode(values)[1:-1]


def _image_parts(batch: ChangeBatch, image: Literal["before", "after"]) -> Iterator[Part]:
    struct = batch.data.column(image)
    group = BEFORE if image == "before" else AFTER
    opening = b"{"
    for field, array in zip(struct.type, struct.flatten(), strict=True):
        fragments = render_column(batch.schema.column(field.name), array, batch.impossible.get((image, field.name)))
        yield Part(opening + msgspec.json.encode(field.name) + b":", fragments, group)
        opening = b","
    yield Part(b"}" if opening == b"," else b"{}", None, group)


def _transaction_ids(batch: ChangeBatch) -> Fragments:
    """The GTID, else "file:offset where the transaction begins"."""
    gtid = batch.data.column("gtid")
    if gtid.null_count == 0:
        return render_labels(gtid)
    place = pc.binary_join_element_wise(
        batch.data.column("file").cast(pa.string()), batch.data.column("txn_pos").cast(pa.string()), ":"
    )
    return render_strings(pc.coalesce(gtid.cast(pa.string()), place))


def _json_null_parts(batch: ChangeBatch) -> Iterator[Part]:
    """The rare part that names columns with the JSON value null."""
    named: dict[int, list[str]] = {}
    for image in ("before", "after"):
        struct = batch.data.column(image)
        for field, array in zip(struct.type, struct.flatten(), strict=True):
            if batch.schema.column(field.name).type == "json":
                for row in pc.indices_nonzero(
                    pc.equal(pc.utf8_trim_whitespace(array), "null").fill_null(False)
                ).to_pylist():
                    named.setdefault(row, []).append(f"{image}.{field.name}")
    if named:
        texts = (
            b',"json_null":' + msgspec.json.encode(named[row]) if row in named else b"" for row in range(len(batch))
        )
        yield Part(b"", Fragments.of(list(texts)))


class _Source(msgspec.Struct, gc=False):
    ts_us: int
    server_id: int
    server_uuid: str
    file: str
    pos: int
    row: int
    txn_pos: int
    gtid: str | None
    json_null: list[str] = []


class _Transaction(msgspec.Struct, gc=False):
    total_order: int


_JSON_TYPES: dict[str, Any] = {
    **dict.fromkeys((*INTEGER_BITS, "year"), int | None),
    **dict.fromkeys(RAW_TYPES, msgspec.Raw),
    "set": list[str] | None,
}


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one table's envelopes are read.

    Attributes:
        full: insists on every column; None where it cannot be had.
        partial: lets columns be absent.
        values: an image's values in the order of the columns, UNSET where absent.
        null_image: stands for an image that is null.
    """

    full: msgspec.json.Decoder[Any] | None
    partial: msgspec.json.Decoder[Any]
    values: Callable[[Any], tuple[Any, ...]]
    null_image: Any


@lru_cache(maxsize=1024)
def _codec(schema: TableSchema) -> _Codec:
    if any(_UNFIT.search(column.name) for column in schema.columns) or len(schema.columns) < 2:
        return _codec_by_name(schema)
    names = {f"c{i}": column.name for i, column in enumerate(schema.columns)}
    shapes = [(name, _json_type(column)) for name, column in zip(names, schema.columns, strict=True)]
    full = msgspec.defstruct("Image", shapes, rename=names, gc=False)
    optional = [(name, shape | msgspec.UnsetType, msgspec.UNSET) for name, shape in shapes]
    partial = msgspec.defstruct("PartialImage", optional, rename=names, gc=False)
    return _Codec(_decoder(full), _decoder(partial), attrgetter(*names), full(*[None] * len(names)))


def _codec_by_name(schema: TableSchema) -> _Codec:
    """For tables whose column names msgspec's structs cannot have, and for tables of one column: slower, the same result."""
    readers = [(column.name, msgspec.json.Decoder(_json_type(column)).decode) for column in schema.columns]

    def values(image: dict[str, msgspec.Raw]) -> tuple[Any, ...]:
        return tuple(read(image[name]) if name in image else msgspec.UNSET for name, read in readers)

    nothing = {column.name: msgspec.Raw(b"null") for column in schema.columns}
    return _Codec(None, _decoder(dict[str, msgspec.Raw]), values, nothing)


def _json_type(column: Column) -> Any:
    if column.type == "bit":
        return (bool if column.length == 1 else int) | None
    return _JSON_TYPES.get(column.type, str | None)


def _decoder(image: Any) -> msgspec.json.Decoder[Any]:
    fields: list[tuple[str, Any]] = [
        ("before", image | None),
        ("after", image | None),
        ("source", _Source),
        ("op", Literal["c", "u", "d", "r", "t"]),
        ("transaction", _Transaction),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields, gc=False))


def changes_in(message: bytes, content_type: str | None) -> int:
    """How many changes a JSON message holds."""
    return message.rstrip(b"\n").count(b"\n") + 1 if content_type == JSON_LINES else 1


def parse(messages: Sequence[bytes], schema: TableSchema) -> list[ChangeBatch]:
    """The changes of messages of one table under one schema, each an envelope or several of them, one a line.

    Mostly one batch; more where the server or the columns of partial images change. `seq` counts from 0 through all of them.
    Raises WireError for a message that is not what `render` writes.
    """
    codec = _codec(schema)
    envelopes = _decode_full(codec, messages)
    is_full = envelopes is not None
    if envelopes is None:
        envelopes = [e for i, message in enumerate(messages) for e in _decode_partial(codec, message, i, schema)]
    images = [
        [codec.null_image if envelope.before is None else envelope.before for envelope in envelopes],
        [codec.null_image if envelope.after is None else envelope.after for envelope in envelopes],
    ]
    try:
        rows = [list(map(codec.values, image)) for image in images]
    except msgspec.DecodeError as error:
        raise WireError(f"{schema.name}: a value is not of its column's type: {error}") from error
    starts = _starts(envelopes, None if is_full else rows)
    return [
        _batch(schema, envelopes[start:stop], [image[start:stop] for image in rows], start)
        for start, stop in zip(starts, [*starts[1:], len(envelopes)], strict=True)
        if stop > start
    ]


def _decode_full(codec: _Codec, messages: Sequence[bytes]) -> list[Any] | None:
    """All envelopes in one go; None when one of them is not a full one, or is none at all."""
    if codec.full is None:
        return None
    try:
        return list(codec.full.decode_lines(b"\n".join(messages)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decode_partial(codec: _Codec, message: bytes, number: int, schema: TableSchema) -> list[Any]:
    try:
        return list(codec.partial.decode_lines(message))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(
            f"{schema.name}: message {number} of {len(message)} bytes is no envelope of this table: {error}"
        ) from error


def _starts(envelopes: Sequence[Any], rows: Sequence[Sequence[tuple[Any, ...]]] | None) -> list[int]:
    """Where batches begin: at another server, and at another set of columns (a NULL image goes with any set)."""
    starts = [0]
    server: tuple[str, int] | None = None
    present: list[tuple[bool, ...] | None] = [None, None]
    for i, envelope in enumerate(envelopes):
        here = (envelope.source.server_uuid, envelope.source.server_id)
        own: list[tuple[bool, ...] | None] = [None, None]
        if rows is not None:
            for k, image in enumerate((envelope.before, envelope.after)):
                if image is not None:
                    own[k] = tuple(value is msgspec.UNSET for value in rows[k][i])
        fits = all(a is None or b is None or a == b for a, b in zip(own, present, strict=True))
        if i and (here != server or not fits):
            starts.append(i)
            present = [None, None]
        server = here
        present = [a if a is not None else b for a, b in zip(own, present, strict=True)]
    return starts


def _batch(
    schema: TableSchema, envelopes: Sequence[Any], rows: Sequence[Sequence[tuple[Any, ...]]], first: int
) -> ChangeBatch:
    sources = [envelope.source for envelope in envelopes]
    impossible: dict[tuple[Literal["before", "after"], str], pa.StringArray] = {}
    images = []
    for name, values in zip(("before", "after"), rows, strict=True):
        is_null = [getattr(envelope, name) is None for envelope in envelopes]
        images.append(_image(schema, (name, sources), values, is_null, impossible))
    columns: dict[str, Any] = {
        name: [getattr(source, name) for source in sources]
        for name in ("ts_us", "gtid", "file", "pos", "row", "txn_pos")
    }
    columns["ts_us"] = pa.array(columns["ts_us"], pa.int64())
    columns["order"] = [envelope.transaction.total_order - 1 for envelope in envelopes]
    columns["seq"] = pa.array(range(first, first + len(envelopes)), pa.int64())
    ops: list[Op] = [envelope.op for envelope in envelopes]
    server = (sources[0].server_uuid, sources[0].server_id)
    return build_batch(schema, ops, (images[0], images[1]), columns, server, impossible)


def _is_json_null(source: _Source, name: str) -> bool:
    return bool(source.json_null) and name in source.json_null


def _image(
    schema: TableSchema,
    where: tuple[Any, Sequence[_Source]],
    rows: Sequence[tuple[Any, ...]],
    is_null: Sequence[bool],
    impossible: dict[tuple[Literal["before", "after"], str], pa.StringArray],
) -> pa.StructArray:
    """One image of all rows; `where` is its name, and the sources, which say what of it is a JSON null."""
    name, sources = where
    sample = next((row for row, null in zip(rows, is_null, strict=True) if not null), None)
    columns = zip(schema.columns, zip(*rows, strict=True), strict=True) if rows else ()
    arrays, fields = [], []
    for i, (column, values) in enumerate(columns):
        if sample is not None and sample[i] is msgspec.UNSET:
            continue
        own = [None if null else value for value, null in zip(values, is_null, strict=True)]
        if column.type in RAW_TYPES:
            own = [None if value is None else bytes(value) for value in own]
        if column.type == "json":
            place = f"{name}.{column.name}"
            own = [
                None if value == b"null" and not _is_json_null(source, place) else value
                for value, source in zip(own, sources, strict=True)
            ]
        array, texts = read_column(column, own)
        if texts is not None:
            impossible[name, column.name] = texts
        arrays.append(array)
        fields.append(pa.field(column.name, array.type))
    if not fields:
        return pa.array([None if null else {} for null in is_null], pa.struct([]))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(is_null))


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
