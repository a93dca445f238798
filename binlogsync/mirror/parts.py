"""Changes of one batch as a mirror takes them: checked, their images in the types that DuckDB reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.duckfile import quote
from binlogsync.errors import ConsumeError
from binlogsync.schema import Column, TableSchema

log = logging.getLogger(__name__)

VIEW = "binlogsync_changes"
Letters = np.ndarray[Any, np.dtype[np.str_]]


@dataclass(frozen=True, slots=True)
class Part:
    """Changes of one batch and their op letters."""

    batch: ChangeBatch
    ops: Letters

    def image(self, image: str, names: Sequence[str], letters: str) -> list[pa.Array]:
        """Columns of one image as DuckDB takes them, of the changes whose op is one of `letters`."""
        struct: pa.StructArray = self.keep(self.batch.data.column(image), letters)
        arrays = dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))
        return [plain(arrays[name]) for name in names]

    def keep(self, array: pa.Array, letters: str) -> pa.Array:
        """The values where the op is one of `letters`."""
        mask = np.isin(self.ops, list(letters))
        return array if mask.all() else array.filter(pa.array(mask))


def ops_of(batch: ChangeBatch) -> Letters:
    """The op letter of each change."""
    column = batch.data.column("op")
    letters = np.array(column.dictionary.to_pylist(), dtype="U1")
    picked: Letters = letters[column.indices.to_numpy(zero_copy_only=False)]
    return picked


def check_batch(batch: ChangeBatch) -> None:
    names = [column.name for column in batch.schema.columns]
    for image in ("before", "after"):
        there = batch.data.schema.field(image).type
        if [there.field(i).name for i in range(there.num_fields)] != names:
            raise ConsumeError(
                f"{batch.schema.name}: a mirror needs full row images, and an image holds {there.num_fields} of "
                f"{len(names)} columns; "
                + (
                    "MariaDB leaves generated columns out of updates and deletes whatever its settings: use a handler "
                    "for a table that has some, else SET GLOBAL binlog_row_image = 'FULL', and fill this mirror anew"
                    if batch.server_uuid.startswith("mariadb:")
                    else "SET PERSIST binlog_row_image = 'FULL' on the server, then fill this mirror anew"
                )
            )
    for (_, column), texts in batch.impossible.items():
        if texts.null_count == len(texts):
            continue
        if column in batch.schema.primary_key:
            raise ConsumeError(
                f"{batch.schema.name}.{column}: a zero or impossible date in a primary key cannot be mirrored; "
                "use a handler for this table"
            )
        log.warning(
            "%s.%s: %d zero or impossible dates are NULL in the mirror",
            batch.schema.name,
            column,
            len(texts) - texts.null_count,
        )


def plain(array: pa.Array) -> pa.Array:
    """DuckDB reads decimals of up to 38 digits; longer ones go as MySQL's text."""
    if not pa.types.is_decimal256(array.type):
        return array
    return pa.array([None if v is None else f"{v:f}" for v in array.to_pylist()], pa.string())


def places_of(schema: TableSchema) -> list[str]:
    """Names of the columns by position, free of quoting."""
    return [f"c{i}" for i in range(len(schema.columns))]


def stack(chunks: Sequence[Sequence[pa.Array]], names: Sequence[str]) -> pa.Table:
    """A table from lists of equally many arrays, one list under the other."""
    return pa.Table.from_arrays(
        [pa.chunked_array(list(column)) for column in zip(*chunks, strict=True)], names=list(names)
    )


def signs_of(value: str, column: Column) -> list[str]:
    """What besides the value itself tells numbers apart: DuckDB takes 0.0 and -0.0 for equal."""
    if column.type == "vector":
        return [f"list_transform({value}, lambda x: signbit(x))"]
    return [f"signbit({value})"] if column.type in ("float", "double") else []


def insert_rows(connection: duckdb.DuckDBPyConnection, target: str, batch: ChangeBatch) -> None:
    """Add the rows of a reading (op "r") to a table of their schema, given as SQL."""
    check_batch(batch)
    images = Part(batch, ops_of(batch)).image("after", [column.name for column in batch.schema.columns], "r")
    names = ", ".join(quote(column.name) for column in batch.schema.columns)
    connection.register(VIEW, stack([images], places_of(batch.schema)))
    connection.execute(f"INSERT INTO {target} ({names}) FROM {VIEW}")
    connection.unregister(VIEW)
