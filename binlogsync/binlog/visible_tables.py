"""Removes hidden columns and history rows of MariaDB tables from changes, so that they match what SELECT returns.

Hidden columns: a UNIQUE key on BLOB, TEXT or long VARCHAR adds a hash column, DB_ROW_HASH_1 and so on. System
versioning without declared period columns adds two, the row start and the row end.

History rows: a system-versioned table keeps each former version of a row. UPDATE logs the update, and an insert of the
former version; DELETE logs an update that ends the current version. These become one update, or one delete. Changes of
history rows are dropped.

Source: vers_update_fields, vers_insert_history_row in sql/table.cc and sql/sql_update.cc of MariaDB, and
add_hash_field in sql/sql_table.cc.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import ImageName
from binlogsync.change_batch import OP_TYPE, ChangeBatch
from binlogsync.schema import Column, TableSchema

HIDDEN_COLUMNS = ("row_start", "row_end")
"""Names of the hidden columns of a system-versioned table without declared period columns."""
_ENDLESS = {
    "timestamp": [(2**31 * 10**6) - 1, (2**32 * 10**6) - 1],  # the second from MariaDB 11.5 on
    "bigint": [2**64 - 1],
}
"""The row end of the current version of a row."""
_HASH = re.compile(r"DB_ROW_HASH_[0-9]+")
_Bools = npt.NDArray[np.bool_]
_CREATE, _UPDATE, _DELETE = 0, 1, 2  # indexes in change.OPS


@dataclass(frozen=True, slots=True)
class VisibleTable:
    """A table as SELECT returns it.

    Attributes:
        schema: without hidden columns, and without the row end column in its key.
        row_end: name of the row end column of a system-versioned table, else None.
    """

    schema: TableSchema
    row_end: str | None = None


def may_have_hidden_columns(columns: Sequence[Column]) -> bool:
    """True when these columns of a TABLE_MAP may include columns, or the table rows, that SELECT does not return."""
    return sum(_is_of_period(column) for column in columns) > 1 or any(_HASH.fullmatch(c.name) for c in columns)


def with_hash_columns(schema: TableSchema, logged: Sequence[Column]) -> TableSchema:
    """The declared schema with the hash columns that are logged after its own columns."""
    more = logged[len(schema.columns) :]
    if any(column.type != "bigint" for column in more):
        return schema
    hashes = (Column(f"DB_ROW_HASH_{n}", "bigint", column.nullable, unsigned=True) for n, column in enumerate(more, 1))
    return replace(schema, columns=(*schema.columns, *hashes))


def _is_of_period(column: Column) -> bool:
    if column.nullable:
        return False
    return (column.type == "timestamp" and column.fsp == 6) or (column.type == "bigint" and column.unsigned)


def find_visible_table(
    schema: TableSchema, declared: tuple[str, str] | None, listed: Sequence[str]
) -> VisibleTable | None:
    """The table as SELECT returned it when it was logged with this schema; None when SELECT returned all of it.

    `declared` are the current names of the row start and row end columns, and `listed` the names of the columns that
    clients see now. Hidden columns are in the log only, even those of a table that is no longer versioned.
    """
    names = [column.name for column in schema.columns if not _HASH.fullmatch(column.name) or column.name in listed]
    hides_period = tuple(names[-2:]) == HIDDEN_COLUMNS and HIDDEN_COLUMNS[0] not in listed
    period = HIDDEN_COLUMNS if hides_period else declared
    if period is not None and not all(name in names and _is_of_period(schema.column(name)) for name in period):
        period = None
    shown = set(names[:-2] if hides_period and period else names)
    if period is None and len(shown) == len(schema.columns):
        return None
    row_end = None if period is None else period[1]
    columns = tuple(column for column in schema.columns if column.name in shown)
    key = tuple(name for name in schema.primary_key if name != row_end)
    return VisibleTable(replace(schema, columns=columns, primary_key=key), row_end)


def visible_changes(batch: ChangeBatch, table: VisibleTable) -> ChangeBatch:
    """The changes of the rows and columns that SELECT returns."""
    is_there = {name: np.asarray(batch.data.column(name).is_valid()) for name in ("before", "after")}
    if table.row_end is None:
        return _with_images(batch, table, is_there["before"], is_there["after"])
    current = {name: _is_current(batch.data.column(name), table.row_end) for name in ("before", "after")}
    # A column that is absent from one image has the value of the other image.
    before = _known(current["before"], current["after"], len(batch)) & is_there["before"]
    after = _known(current["after"], current["before"], len(batch)) & is_there["after"]
    ops = np.where(before & after, _UPDATE, np.where(after, _CREATE, _DELETE)).astype(np.int8)
    names = batch.data.column("op").dictionary
    op = pa.DictionaryArray.from_arrays(pa.array(ops, OP_TYPE.index_type), names, safe=False)
    batch = replace(batch, data=batch.data.set_column(0, "op", op))
    return _with_images(batch, table, before, after).select(pa.array(before | after))


def _with_images(batch: ChangeBatch, table: VisibleTable, before: _Bools, after: _Bools) -> ChangeBatch:
    """The batch with the visible columns only, and with an image in the rows where `before` or `after` is True."""
    shown = [column.name for column in table.schema.columns]
    impossible: dict[tuple[ImageName, str], pa.StringArray] = {}
    data = batch.data
    both: tuple[tuple[ImageName, _Bools], ...] = (("before", before), ("after", after))
    for number, (name, kept) in enumerate(both, 1):
        data = data.set_column(number, name, _image(batch.data.column(name), shown, kept))
        impossible |= _texts(batch, name, shown, kept)
    return replace(batch, schema=table.schema, data=data, impossible=impossible)


def _is_current(image: pa.StructArray, end: str) -> _Bools | None:
    """Whether each row is the current version; None when the image does not have the row end column."""
    at = image.type.get_field_index(end)
    if at < 0:
        return None
    values = image.field(at)
    kind = "timestamp" if pa.types.is_timestamp(values.type) else "bigint"
    numbers = values.cast(pa.int64()).fill_null(0) if kind == "timestamp" else values.fill_null(0)
    return np.isin(numbers.to_numpy(zero_copy_only=False), np.array(_ENDLESS[kind], numbers.type.to_pandas_dtype()))


def _known(own: _Bools | None, other: _Bools | None, count: int) -> _Bools:
    if own is not None:
        return own
    return np.ones(count, np.bool_) if other is None else other


def _image(image: pa.StructArray, shown: Sequence[str], kept: _Bools) -> pa.StructArray:
    """The image with the visible columns, NULL in rows that do not keep it."""
    names = [name for name in shown if image.type.get_field_index(name) >= 0]
    arrays: list[Any] = [image.field(image.type.get_field_index(name)) for name in names]
    if not names:
        return pa.nulls(len(image), pa.struct([]))
    return pa.StructArray.from_arrays(arrays, names, mask=pa.array(~kept))


def _texts(
    batch: ChangeBatch, name: ImageName, shown: Sequence[str], kept: _Bools
) -> dict[tuple[ImageName, str], pa.StringArray]:
    """The impossible dates of the image, for the visible columns and the rows that keep it."""
    nothing = pa.scalar(None, pa.string())
    return {
        (image, column): pc.if_else(pa.array(kept), texts, nothing)
        for (image, column), texts in batch.impossible.items()
        if image == name and column in shown
    }
