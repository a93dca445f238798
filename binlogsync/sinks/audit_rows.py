"""Converts ChangeBatches to rows of the audit log, with images and keys as JSON text in the format of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope_writer import EnvelopePart, render_rows
from binlogsync.codec.renderers import JsonTexts, column_values

Image = Literal["before", "after"]


def audit_rows(batches: Sequence[ChangeBatch]) -> pa.Table | None:
    """One row for each change, with `seq` as sort key; None when there is no change."""
    tables = [_rows(batch) for batch in batches if len(batch) and batch.ddl is None]
    return pa.concat_tables(tables) if tables else None


def _rows(batch: ChangeBatch) -> pa.Table:
    count = len(batch)
    before, after = (
        _image_json(batch, image, batch.data.schema.field(image).type.names) for image in ("before", "after")
    )
    position = {name: batch.data.column(name) for name in ("pos", "row", "txn_pos", "seq")}
    return pa.table(
        {
            "op": batch.data.column("op").cast(pa.string()),
            "database": pa.repeat(pa.scalar(batch.schema.database), count),
            "table_name": pa.repeat(pa.scalar(batch.schema.table), count),
            "key": _keys(batch),
            "before": before,
            "after": after,
            "gtid": batch.data.column("gtid").cast(pa.string()),
            "server_uuid": pa.repeat(pa.scalar(batch.server_uuid), count),
            "file": batch.data.column("file").cast(pa.string()),
            **position,
            "txn_order": batch.data.column("order"),
            "committed_at": batch.data.column("ts_us"),
            "id": batch.ids(),
        }
    )


def _keys(batch: ChangeBatch) -> pa.StringArray:
    """The primary key from `after`, for a delete from `before`; NULL if the table has none."""
    names = [
        name
        for name in batch.schema.primary_key
        if all(name in batch.data.schema.field(image).type.names for image in ("before", "after"))
    ]
    if not names:
        return pa.nulls(len(batch), pa.string())
    return pc.coalesce(_image_json(batch, "after", names), _image_json(batch, "before", names))


def _image_json(batch: ChangeBatch, image: Image, names: Sequence[str]) -> pa.StringArray:
    """The given columns of an image as a JSON object; NULL for a NULL image."""
    struct: pa.StructArray = batch.data.column(image)
    parts: list[EnvelopePart] = []
    for name in names:
        opening = (b"," if parts else b"{") + msgspec.json.encode(name) + b":"
        array, impossible = struct.field(name), batch.impossible.get((image, name))
        parts.append(EnvelopePart(opening, column_values(batch.schema.column(name), array, impossible), struct))
    parts.append(EnvelopePart(b"}" if parts else b"{}", None, struct))
    texts = _strings(render_rows(len(batch), parts))
    return texts if struct.null_count == 0 else pc.if_else(struct.is_valid(), texts, None)


def _strings(fragments: JsonTexts) -> pa.StringArray:
    """The rows as an Arrow array, without a copy of the text."""
    offsets, data = pa.py_buffer(fragments.offsets), pa.py_buffer(fragments.data)
    return pa.LargeStringArray.from_buffers(len(fragments), offsets, data).cast(pa.string())
