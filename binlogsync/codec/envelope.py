"""ChangeBatch <-> messages of the stream: headers, and encoding of envelopes. Only this module, codec/json_decoder.py,
codec/arrow.py and codec/schema_change.py use the names of the wire format.

`render` writes Debezium's envelope, one a change:

    before, after, op, ts_ms, ts_us (when it was processed), transaction {id, total_order (from 1)},
    source {version, connector, name, ts_ms, ts_us (of the commit), snapshot, db, table, server_id, server_uuid, gtid,
            file, pos, row, txn_pos}

`server_uuid` and `txn_pos` are additions to Debezium's format. So is `json_null` of `source`, which lists the columns
of the images that contain the JSON value null (indistinguishable from NULL otherwise); it is present only if needed.
`data_collection_order` is omitted: it would require all changes of a transaction, and a transaction may be split.
A row that a snapshot has published has the op "r", `snapshot` "incremental", no `gtid`, and the transaction id
"snapshot:<id>"; for a table that is published as a whole, see SNAPSHOT_STAGES in position.py.
`parse` of json_decoder.py decodes them to equal batches, except for `seq`, which is not on the wire. `encode_arrow`
and `decode_arrow` do the same for the other format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.binlog.rendered import RenderedBatch
from binlogsync.change_batch import NAME_TYPE, ChangeBatch
from binlogsync.codec.arrow import decode_arrow, encode_arrow
from binlogsync.codec.envelope_writer import EnvelopePart, render_rows
from binlogsync.codec.json_columns import JsonColumn, integers, labels, raw, strings
from binlogsync.codec.renderers import JsonTexts, column_values
from binlogsync.codec.schema_change import decode_schema_change, encode_schema_change
from binlogsync.position import SNAPSHOT_STAGES
from binlogsync.server_version import flavor_of

__all__ = [
    "ARROW",
    "CHECKPOINT",
    "CONTENT_TYPE",
    "GAP",
    "JSON",
    "JSON_LINES",
    "LARGE_OBJECT",
    "LARGE_OBJECT_SIZE",
    "SCHEMA",
    "SCHEMA_CHANGE",
    "WRITE_ID",
    "EnvelopeContext",
    "count_changes",
    "decode_arrow",
    "decode_schema_change",
    "encode_arrow",
    "encode_schema_change",
    "envelopes",
    "has_tail_header",
    "render",
]

CONTENT_TYPE = "Content-Type"
SCHEMA = "Cdc-Schema"
"""Fingerprint of the table's schema; the document is in the source's schema bucket under it."""
SCHEMA_CHANGE = "Cdc-Schema-Change"
"""A message with this header is a change of the table's schema, not of a row; for its document see schema_change.py."""
CHECKPOINT = "Cdc-Checkpoint"
"""Checkpoint.to_text() after this message; in the last message of each atomic batch, and in each single message."""
WRITE_ID = "Cdc-Write"
"""Id of one attempt of a writer to store an atomic batch (in its last message) or a single message."""
GAP = "Cdc-Gap"
"""A message with this header, on the checkpoint subject, marks a gap accepted by the operator: a JSON document."""
LARGE_OBJECT = "Cdc-Object"
"""The body is in the source's object store bucket under this name."""
LARGE_OBJECT_SIZE = "Cdc-Object-Size"
"""Its size in bytes, for readers that limit their memory."""
TAIL_HEADERS = frozenset({CHECKPOINT, SCHEMA, SCHEMA_CHANGE})
"""Every message of a tail has one of these headers."""
JSON = "application/json"
JSON_LINES = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"

VERSION = "1"


@dataclass(frozen=True, slots=True)
class EnvelopeContext:
    """What an envelope contains besides the change: name of the source, and time of processing (microseconds since 1970
    UTC).
    """

    source: str
    processed_us: int


def render(batch: ChangeBatch, context: EnvelopeContext, end: bytes = b"") -> JsonTexts:
    """The envelopes of all changes in one buffer, each followed by `end`.

    Raises WireError for a column type without JSON representation.
    """
    if isinstance(batch, RenderedBatch):
        return JsonTexts.of(_framed(batch, context, end))
    data = batch.data
    published = batch.published_rows()
    gtid = data.column("gtid")
    if published is not None:
        gtid = pc.if_else(published, None, gtid.cast(pa.string())).dictionary_encode().cast(NAME_TYPE)
    ts_us = data.column("ts_us").cast(pa.int64()).to_numpy()
    op = data.column("op")
    order = data.column("order").to_numpy() + np.uint64(1)
    table = batch.schema.database, batch.schema.table
    head, where = _fixed_members(context.source, table, (batch.server_uuid, batch.server_id))
    processed = {"ts_ms": context.processed_us // 1000, "ts_us": context.processed_us}
    parts = [
        EnvelopePart(b'{"before":'),
        *_image_parts(batch, "before"),
        EnvelopePart(b',"after":'),
        *_image_parts(batch, "after"),
        EnvelopePart(b',"source":{' + head + b',"ts_ms":', integers(pa.array(ts_us // 1000))),
        EnvelopePart(b',"ts_us":', integers(pa.array(ts_us))),
        EnvelopePart(b',"snapshot":', labels(_snapshot(batch, published))),
        EnvelopePart(b"," + where + b',"gtid":', labels(gtid)),
        EnvelopePart(b',"file":', labels(data.column("file"))),
        *(EnvelopePart(f',"{name}":'.encode(), integers(data.column(name))) for name in ("pos", "row", "txn_pos")),
        *_json_null_parts(batch),
        EnvelopePart(b'},"op":', labels(op)),
        EnvelopePart(b"," + _members(processed) + b',"transaction":{"id":', _transaction_ids(batch)),
        EnvelopePart(b',"total_order":', integers(pa.array(order))),
        EnvelopePart(b"}}" + end),
    ]
    return render_rows(len(batch), parts)


@lru_cache(maxsize=4096)
def _fixed_members(source: str, table: tuple[str, str], server: tuple[str, int]) -> tuple[bytes, bytes]:
    """The members of `source` before the times, and those before the GTID."""
    head = {"version": VERSION, "connector": flavor_of(server[0]).value, "name": source}
    where = {"db": table[0], "table": table[1], "server_id": server[1], "server_uuid": server[0]}
    return _members(head), _members(where)


def envelopes(batch: ChangeBatch, context: EnvelopeContext) -> list[bytes]:
    """The envelopes of few changes, one by one; raises WireError as `render` does."""
    return _framed(batch, context, b"") if isinstance(batch, RenderedBatch) else render(batch, context).texts()


def _framed(batch: RenderedBatch, context: EnvelopeContext, end: bytes) -> list[bytes]:
    """The envelopes of images that are JSON already; the same as `render` writes from columns."""
    table = batch.schema.database, batch.schema.table
    head, where = _fixed_members(context.source, table, (batch.server_uuid, batch.server_id))
    processed = b'"ts_ms":%d,"ts_us":%d' % (context.processed_us // 1000, context.processed_us)
    texts = []
    for (before, after), op, values in zip(batch.texts, batch.ops, batch.sources, strict=True):
        ts_us, gtid, file, pos, row, txn_pos, order, _ = values
        transaction = msgspec.json.encode(gtid or f"{file}:{txn_pos}")
        texts.append(
            b'{"before":%b,"after":%b,"source":{%b,"ts_ms":%d,"ts_us":%d,"snapshot":"false",%b,"gtid":%b,"file":%b,'
            b'"pos":%d,"row":%d,"txn_pos":%d},"op":"%b",%b,"transaction":{"id":%b,"total_order":%d}}%b'
            % (
                before,
                after,
                head,
                ts_us // 1000,
                ts_us,
                where,
                transaction if gtid else b"null",
                msgspec.json.encode(file),
                pos,
                row,
                txn_pos,
                op.encode(),
                processed,
                transaction,
                order + 1,
                end,
            )  # fmt: skip
        )
    return texts


def _members(values: dict[str, Any]) -> bytes:
    """A JSON object without its braces."""
    return msgspec.json.encode(values)[1:-1]


def _image_parts(batch: ChangeBatch, image: Literal["before", "after"]) -> Iterator[EnvelopePart]:
    struct: pa.StructArray = batch.data.column(image)
    if struct.null_count == len(struct):
        yield EnvelopePart(b"null")
        return
    group = struct if struct.null_count else None
    columns = {column.name: column for column in batch.schema.columns}
    opening = b"{"
    for number, field in enumerate(struct.type):
        array, impossible = struct.field(number), batch.impossible.get((image, field.name))
        values = column_values(columns[field.name], array, impossible)
        yield EnvelopePart(opening + msgspec.json.encode(field.name) + b":", values, group)
        opening = b","
    yield EnvelopePart(b"}" if opening == b"," else b"{}", None, group)


def _snapshot(batch: ChangeBatch, published: pa.BooleanArray | None) -> pa.DictionaryArray:
    """The `snapshot` member of each change: "incremental", or the stage, for `published` rows, "true" for others with
    op "r".
    """
    op = batch.data.column("op")
    if published is not None:
        others = pc.if_else(pc.equal(op, "r"), "true", "false")
        gtid = batch.data.column("gtid")
        words = pa.array([_stage(str(name)) for name in gtid.dictionary.to_pylist()], pa.string()).take(gtid.indices)
        return pc.if_else(published, words, others).dictionary_encode()
    texts = ["true" if label == "r" else "false" for label in op.dictionary.to_pylist()]
    if len(set(texts)) == 1:
        return pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(texts[:1]))
    return pa.DictionaryArray.from_arrays(op.indices, pa.array(texts))


def _stage(gtid: str) -> str:
    """The word of SNAPSHOT_STAGES at the end of the GTID; "incremental" without one."""
    stage = gtid.rpartition(":")[2]
    return stage if stage in SNAPSHOT_STAGES else "incremental"


def _transaction_ids(batch: ChangeBatch) -> JsonColumn:
    """The GTID or the snapshot, else "file:offset" of the start of the transaction."""
    gtid = batch.data.column("gtid")
    if gtid.null_count == 0:
        return labels(gtid)
    positions = pc.binary_join_element_wise(
        batch.data.column("file").cast(pa.string()), batch.data.column("txn_pos").cast(pa.string()), ":"
    )
    return strings(pc.coalesce(gtid.cast(pa.string()), positions))


def _json_null_parts(batch: ChangeBatch) -> Iterator[EnvelopePart]:
    """The part that lists columns with the JSON value null; rarely present."""
    named: dict[int, list[str]] = {}
    documents = {column.name for column in batch.schema.columns if column.type == "json"}
    for image in ("before", "after") if documents else ():
        struct = batch.data.column(image)
        for number, field in enumerate(struct.type):
            if field.name in documents:
                is_null = pc.equal(pc.utf8_trim_whitespace(pc.struct_field(struct, [number])), "null")
                for row in pc.indices_nonzero(is_null.fill_null(False)).to_pylist():
                    named.setdefault(row, []).append(f"{image}.{field.name}")
    if named:
        texts = [
            b',"json_null":' + msgspec.json.encode(named[row]) if row in named else b"" for row in range(len(batch))
        ]
        yield EnvelopePart(b"", raw(pa.array(texts, pa.binary())))


def has_tail_header(headers: Mapping[str, str]) -> bool:
    """False for a message that was not published by a tail."""
    return not TAIL_HEADERS.isdisjoint(headers)


def count_changes(message: bytes, content_type: str | None) -> int:
    """Number of changes in a JSON message."""
    return message.rstrip(b"\n").count(b"\n") + 1 if content_type == JSON_LINES else 1
