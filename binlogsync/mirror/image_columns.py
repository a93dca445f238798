"""Converts row images to the columns that a mirror has.

MariaDB logs generated columns, VIRTUAL and STORED, only in the images of INSERT, not of UPDATE and DELETE, with every
value of binlog_row_image. Only the server can compute them, so a mirror of a MariaDB table does not have these columns
(`MirrorState.left_out`). With binlog_row_image=FULL_NODUP, and for MySQL tables without a key, the after image of an
update has only the changed columns; the others are taken from the before image.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.schema import TableSchema, remove_columns

ADVICE = "MariaDB logs generated columns in inserts only, so a mirror cannot have them"


def fit_images(batch: ChangeBatch, left_out: Sequence[str] | None) -> ChangeBatch:
    """The changes without the columns `left_out`, and with complete images where the other image has the values."""
    count = len(batch.schema.columns)
    is_complete = all(batch.data.schema.field(image).type.num_fields == count for image in ("before", "after"))
    if batch.ddl is not None or (is_complete and not left_out):
        return batch
    schema = remove_columns(batch.schema, tuple(left_out or ()))
    before, after = (batch.data.column(image) for image in ("before", "after"))
    ops = batch.data.column("op").cast(pa.string())
    has_before = pc.all(pc.is_in(ops, pa.array(["u", "d"]))).as_py()
    images = {"before": _image(schema, before), "after": _image(schema, after, before if has_before else None)}
    data = batch.data
    for name, struct in images.items():
        if struct is not None:
            data = data.set_column(data.schema.get_field_index(name), name, struct)
    names = {column.name for column in schema.columns}
    impossible = {key: texts for key, texts in batch.impossible.items() if key[1] in names}
    return ChangeBatch(schema, data, batch.server_uuid, batch.server_id, impossible)


def find_missing_columns(batch: ChangeBatch) -> list[str]:
    """Names of the columns that are missing in an image of the batch."""
    types = [batch.data.schema.field(image).type for image in ("before", "after")]
    return [c.name for c in batch.schema.columns if any(kind.get_field_index(c.name) < 0 for kind in types)]


def _image(schema: TableSchema, struct: Any, fallback: Any = None) -> pa.StructArray | None:
    """The image with all columns of the schema, missing ones from `fallback`; None if both miss a column."""
    if struct.null_count == len(struct):
        return pa.nulls(len(struct), schema.image_type())
    arrays = []
    for column in schema.columns:
        source = struct if struct.type.get_field_index(column.name) >= 0 else fallback
        at = -1 if source is None else source.type.get_field_index(column.name)
        if at < 0:
            return None
        arrays.append(source.field(at))
    return pa.StructArray.from_arrays(arrays, [column.name for column in schema.columns], mask=struct.is_null())


def contains_name(names: Collection[str], wanted: str) -> bool:
    """Whether the names contain the column's name; ignores case."""
    return wanted.lower() in {name.lower() for name in names}
