"""Row images of one batch as Arrow arrays that DuckDB can read, and functions that insert them into tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.batch_checks import Letters, check_batch, decode_ops
from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.key_dates import replace_key_dates

log = logging.getLogger(__name__)

_FEW_ROWS = 2048
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class RowImages:
    """The row images of one batch, with the op letter of each change (see `decode_ops`)."""

    batch: ChangeBatch
    ops: Letters

    def mask(self, letters: str) -> Mask:
        """True for changes whose op is one of `letters`."""
        wanted: Mask = np.zeros(256, dtype=np.bool_)
        wanted[[ord(letter) for letter in letters]] = True
        mask: Mask = wanted[self.ops]
        return mask

    def image(self, image: str, names: Sequence[str], wanted: str | Mask | None = None) -> list[pa.Array]:
        """Columns of one image, in types that DuckDB can read.

        `wanted` selects changes by op letters or by a mask; each selected change must have the image. None selects all
        changes, with NULLs where a change does not have the image.
        """
        struct: pa.StructArray = self.batch.data.column(image)
        # The values below a NULL image are undefined, even invalid labels: they are hidden or filtered out.
        hidden = struct.flatten() if wanted is None and struct.null_count else None
        selected = self.mask(wanted) if isinstance(wanted, str) else wanted
        found = []
        for name in names:
            at = struct.type.get_field_index(name)
            array = struct.field(at) if hidden is None else hidden[at]
            texts = self.key_texts(image, name)
            if texts is not None:
                array = replace_key_dates(self.batch.schema.column(name), array, texts)
            found.append(to_duck_array(array if selected is None else _filter(array, selected)))
        return found

    def key_texts(self, image: str, name: str) -> pa.StringArray | None:
        """Text of the invalid dates in a primary key column; None for other columns, or if there are none."""
        if name not in self.batch.schema.primary_key:
            return None
        return next((texts for at, texts in self.batch.impossible.items() if at == (image, name)), None)

    def filter(self, array: pa.Array, letters: str) -> pa.Array:
        """The values of the changes whose op is one of `letters`."""
        return _filter(array, self.mask(letters))


def row_images(batches: Sequence[ChangeBatch]) -> list[RowImages]:
    """The row images of the batches."""
    return [RowImages(batch, decode_ops(batch)) for batch in batches]


def _filter(array: pa.Array, mask: Mask) -> pa.Array:
    return array if mask.all() else array.filter(pa.array(mask))


def to_duck_array(array: pa.Array) -> pa.Array:
    """The array, with decimals of more than 38 digits as text: DuckDB has no such type."""
    if not pa.types.is_decimal256(array.type):
        return array
    return pa.array([None if v is None else f"{v:f}" for v in array.to_pylist()], pa.string())


def positional_names(schema: TableSchema) -> list[str]:
    """Names of the columns by position (c0, c1, ...), which need no quoting."""
    return [f"c{i}" for i in range(len(schema.columns))]


def stack(chunks: Sequence[Sequence[pa.Array]], names: Sequence[str]) -> pa.Table:
    """A table from lists of arrays, one list of columns per chunk."""
    return pa.Table.from_arrays(
        [pa.chunked_array(list(column)) for column in zip(*chunks, strict=True)], names=list(names)
    )


def sign_columns(value: str, column: Column) -> list[str]:
    """SQL that distinguishes 0.0 from -0.0, which DuckDB compares as equal; [] for other types."""
    if column.type == "vector":
        return [f"list_transform({value}, lambda x: signbit(x))"]
    return [f"signbit({value})"] if column.type in ("float", "double") else []


def insert_rows(connection: duckdb.DuckDBPyConnection, target: str, batch: ChangeBatch) -> None:
    """Insert rows of a snapshot (op "r") into a table of their schema, given as SQL."""
    check_batch(batch)
    images = RowImages(batch, decode_ops(batch)).image("after", [column.name for column in batch.schema.columns], "r")
    names = ", ".join(quote(column.name) for column in batch.schema.columns)
    rows = stack([images], positional_names(batch.schema))
    insert(connection, f"{target} ({names})", positional_names(batch.schema), ROWS, rows)


def insert_table(connection: duckdb.DuckDBPyConnection, target: str, rows: pa.Table) -> None:
    """Insert rows, in DuckDB's types, into a table given as SQL."""
    names = ", ".join(map(quote, rows.column_names))
    execute_on(connection, f"INSERT INTO {target} ({names}) FROM {ROWS}", rows)


def insert(
    connection: duckdb.DuckDBPyConnection,
    into: str,
    columns: Sequence[str],
    source: str,
    rows: pa.Table | pa.RecordBatchReader | None = None,
) -> None:
    """INSERT INTO `into` SELECT `columns` FROM `source`, in one thread. `rows` are the table ROWS, if `source` has it.

    DuckDB runs an INSERT in all threads; each collects rows that are copied again at the end, which doubles the CPU
    time. It uses one thread if a part of the source has no defined order, as an aggregate; the aggregate here adds no
    row. Few rows are not divided, and the aggregate would double the time of the statement.
    """
    statement = f"INSERT INTO {into} SELECT {', '.join(columns)} FROM {source}"
    if not isinstance(rows, pa.Table) or len(rows) > _FEW_ROWS:
        none = f"SELECT {', '.join('NULL' for _ in columns)} FROM (SELECT count(*) AS n FROM (VALUES (0))) WHERE n < 0"
        statement += f" UNION ALL {none}"
    if rows is None:
        connection.execute(statement)
    else:
        execute_on(connection, statement, rows)
