"""Row images fitted to the columns that a mirror has.

MariaDB leaves generated columns, VIRTUAL and STORED, out of the images of UPDATE and DELETE, whatever binlog_row_image
is, and logs them in INSERT only. What they become is known to the server alone, so a mirror of a table of MariaDB does
without them (`MirrorState.left_out`). With binlog_row_image=FULL_NODUP, and of MySQL with a table without a key, the
image behind an update has only what has changed: what it lacks is as it was before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import ChangeBatch
from binlogsync.schema import TableSchema

ADVICE = "MariaDB logs generated columns in inserts only, so the mirror does without them"


@lru_cache(maxsize=1000)
def remove_columns(schema: TableSchema, names: tuple[str, ...]) -> TableSchema:
    """The schema without the columns of these names, whatever their case."""
    gone = {name.lower() for name in names}
    return replace(schema, columns=tuple(column for column in schema.columns if column.name.lower() not in gone))


def fit_images(batch: ChangeBatch, left_out: Sequence[str] | None) -> ChangeBatch:
    """Changes of rows without these columns, and with whole images where they tell the rest; else as they are."""
    count = len(batch.schema.columns)
    is_whole = all(batch.data.schema.field(image).type.num_fields == count for image in ("before", "after"))
    if batch.ddl is not None or (is_whole and not left_out):
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
    there = {column.name for column in schema.columns}
    impossible = {key: texts for key, texts in batch.impossible.items() if key[1] in there}
    return replace(batch, schema=schema, data=data, impossible=impossible)


def find_missing_columns(batch: ChangeBatch) -> list[str]:
    """Names of columns that an image of the batch lacks."""
    types = [batch.data.schema.field(image).type for image in ("before", "after")]
    return [c.name for c in batch.schema.columns if any(kind.get_field_index(c.name) < 0 for kind in types)]


def _image(schema: TableSchema, struct: Any, instead: Any = None) -> pa.StructArray | None:
    """The image with the columns of the schema, those that it lacks from another one; None where both lack some."""
    if struct.null_count == len(struct):
        return pa.nulls(len(struct), schema.image_type())
    arrays = []
    for column in schema.columns:
        holder = struct if struct.type.get_field_index(column.name) >= 0 else instead
        at = -1 if holder is None else holder.type.get_field_index(column.name)
        if at < 0:
            return None
        arrays.append(holder.field(at))
    return pa.StructArray.from_arrays(arrays, [column.name for column in schema.columns], mask=struct.is_null())


def contains_name(names: Collection[str], wanted: str) -> bool:
    """Whether a column's name is among these, whatever its case."""
    return wanted.lower() in {name.lower() for name in names}
