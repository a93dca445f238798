"""MariaDB's system-versioned tables: the changes of the table that SELECT shows, out of those that the binlog has.

The binlog has the two columns of each row's period, also where they are hidden, and a row for every version that has
ended: UPDATE logs the update and an insert of the version before it, DELETE an update that ends the version. Here that
becomes the one update, or a delete; rows of history, and their removal, change nothing that SELECT shows.

Source: vers_update_fields, vers_insert_history_row in sql/table.cc and sql/sql_update.cc of MariaDB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import OP_TYPE, ChangeBatch, ImageName
from binlogsync.schema import Column, TableSchema

HIDDEN_COLUMNS = ("row_start", "row_end")
"""Names of the columns of a period that is not declared; no client sees them in a list of columns."""
_ENDLESS = {
    "timestamp": [(2**31 * 10**6) - 1, (2**32 * 10**6) - 1],  # the second from MariaDB 11.5 on
    "bigint": [2**64 - 1],
}
"""The end of a version that is current."""
_Bools = npt.NDArray[np.bool_]
_CREATE, _UPDATE, _DELETE = 0, 1, 2  # places in change.OPS


@dataclass(frozen=True, slots=True)
class Versioning:
    """Of one table.

    Attributes:
        end: name of the column that holds when a version ended.
        schema: of the table as SELECT shows it: without hidden columns, and without the end of the period in its key.
    """

    end: str
    schema: TableSchema


def can_be_period(columns: Sequence[Column]) -> bool:
    """True when two of the columns are of a type that the columns of a period have."""
    return sum(_is_of_period(column) for column in columns) > 1


def _is_of_period(column: Column) -> bool:
    if column.nullable:
        return False
    return (column.type == "timestamp" and column.fsp == 6) or (column.type == "bigint" and column.unsigned)


def find_versioning(schema: TableSchema, declared: tuple[str, str] | None, listed: Sequence[str]) -> Versioning | None:
    """How the table was versioned when it was logged with this schema; None when it was not.

    `declared` are the names of the period's columns now, and `listed` those of the columns that clients see now: hidden
    columns are in the log only, also of a table that is no longer versioned.
    """
    names = [column.name for column in schema.columns]
    has_hidden = tuple(names[-2:]) == HIDDEN_COLUMNS and HIDDEN_COLUMNS[0] not in listed
    period = HIDDEN_COLUMNS if has_hidden else declared
    if period is None or not all(name in names and _is_of_period(schema.column(name)) for name in period):
        return None
    shown = schema.columns[:-2] if has_hidden else schema.columns
    key = tuple(name for name in schema.primary_key if name != period[1])
    return Versioning(period[1], replace(schema, columns=shown, primary_key=key))


def current_changes(batch: ChangeBatch, versioning: Versioning) -> ChangeBatch:
    """The changes of the rows that SELECT shows."""
    images = {name: batch.data.column(name) for name in ("before", "after")}
    is_there = {name: np.asarray(image.is_valid()) for name, image in images.items()}
    current = {name: _is_current(image, versioning.end) for name, image in images.items()}
    # What an image lacks is as it is in the other one.
    before = _known(current["before"], current["after"], len(batch)) & is_there["before"]
    after = _known(current["after"], current["before"], len(batch)) & is_there["after"]
    ops = np.where(before & after, _UPDATE, np.where(after, _CREATE, _DELETE)).astype(np.int8)
    old = batch.data.column("op")
    data = batch.data.set_column(
        0, "op", pa.DictionaryArray.from_arrays(pa.array(ops, OP_TYPE.index_type), old.dictionary, safe=False)
    )
    shown = [column.name for column in versioning.schema.columns]
    impossible: dict[tuple[ImageName, str], pa.StringArray] = {}
    both: tuple[tuple[ImageName, _Bools], ...] = (("before", before), ("after", after))
    for number, (name, kept) in enumerate(both, 1):
        data = data.set_column(number, name, _image(images[name], shown, kept))
        impossible |= _texts(batch, name, shown, kept)
    return replace(batch, schema=versioning.schema, data=data, impossible=impossible).select(pa.array(before | after))


def _is_current(image: pa.StructArray, end: str) -> _Bools | None:
    """Whether each row's version is the current one; None when the image lacks the end of the period."""
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
    """The columns that are shown, NULL as a whole where the change has no such image."""
    names = [name for name in shown if image.type.get_field_index(name) >= 0]
    arrays: list[Any] = [image.field(image.type.get_field_index(name)) for name in names]
    if not names:
        return pa.nulls(len(image), pa.struct([]))
    return pa.StructArray.from_arrays(arrays, names, mask=pa.array(~kept))


def _texts(
    batch: ChangeBatch, name: ImageName, shown: Sequence[str], kept: _Bools
) -> dict[tuple[ImageName, str], pa.StringArray]:
    """Impossible dates of the image."""
    nothing = pa.scalar(None, pa.string())
    return {
        (image, column): pc.if_else(pa.array(kept), texts, nothing)
        for (image, column), texts in batch.impossible.items()
        if image == name and column in shown
    }
