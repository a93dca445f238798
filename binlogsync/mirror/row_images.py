"""Changes of one batch as a mirror takes them: checked, their images in the types that DuckDB reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.duckfile import quote
from binlogsync.errors import ConsumeError
from binlogsync.mirror.key_dates import replace_key_dates
from binlogsync.schema import Column, TableSchema

log = logging.getLogger(__name__)

VIEW = "binlogsync_changes"
Letters = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class RowImages:
    """Changes of one batch and their op letters, as `decode_ops` gives them."""

    batch: ChangeBatch
    ops: Letters

    def are(self, letters: str) -> Mask:
        """Where the op is one of `letters`."""
        wanted: Mask = np.zeros(256, dtype=np.bool_)
        wanted[[ord(letter) for letter in letters]] = True
        mask: Mask = wanted[self.ops]
        return mask

    def image(self, image: str, names: Sequence[str], wanted: str | Mask | None = None) -> list[pa.Array]:
        """Columns of one image as DuckDB takes them.

        Of the changes whose op is one of the letters `wanted`, or where it is true: each of them has that image. Of all
        changes when None, with NULLs where there is no such image.
        """
        struct: pa.StructArray = self.batch.data.column(image)
        # What lies below a NULL image may be anything, labels that are not there too: it is hidden or left out.
        hidden = struct.flatten() if wanted is None and struct.null_count else None
        mask = self.are(wanted) if isinstance(wanted, str) else wanted
        found = []
        for name in names:
            at = struct.type.get_field_index(name)
            array = struct.field(at) if hidden is None else hidden[at]
            texts = self._key_texts(image, name)
            if texts is not None:
                array = replace_key_dates(self.batch.schema.column(name), array, texts)
            found.append(plain(array if mask is None else _where(array, mask)))
        return found

    def _key_texts(self, image: str, name: str) -> pa.StringArray | None:
        """Impossible dates of a column of the primary key; None for another column, and where there are none."""
        if name not in self.batch.schema.primary_key:
            return None
        return next((texts for at, texts in self.batch.impossible.items() if at == (image, name)), None)

    def keep(self, array: pa.Array, letters: str) -> pa.Array:
        """The values where the op is one of `letters`."""
        return _where(array, self.are(letters))


def _where(array: pa.Array, mask: Mask) -> pa.Array:
    return array if mask.all() else array.filter(pa.array(mask))


def decode_ops(batch: ChangeBatch) -> Letters:
    """The op letter of each change, as its number in ASCII."""
    column = batch.data.column("op")
    letters = np.array([ord(letter) for letter in column.dictionary.to_pylist()], dtype=np.uint8)
    picked: Letters = letters[column.indices.to_numpy(zero_copy_only=False)]
    return picked


def describe_missing_columns(batch: ChangeBatch) -> str:
    """What is wrong with images that do not have all columns, "" when they have: of a session that logged less."""
    names = [column.name for column in batch.schema.columns]
    for image in ("before", "after"):
        there = batch.data.schema.field(image).type
        if [there.field(i).name for i in range(there.num_fields)] != names:
            how = "SET GLOBAL" if batch.server_uuid.startswith("mariadb:") else "SET PERSIST"
            return (
                f"a mirror needs full row images, and an image holds {there.num_fields} of {len(names)} columns: "
                "a session has another binlog_row_image; "
                f"{how} binlog_row_image = 'FULL' on the server, and do not change it in sessions"
            )
    return ""


def check_batch(batch: ChangeBatch) -> None:
    """Raise ConsumeError for changes that a mirror cannot hold."""
    if (problem := describe_missing_columns(batch)) != "":
        raise ConsumeError(f"{batch.schema.name}: {problem}; then mirror it with a connection to its source")
    for (_, column), texts in batch.impossible.items():
        if texts.null_count == len(texts) or column in batch.schema.primary_key:
            continue
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


def positional_names(schema: TableSchema) -> list[str]:
    """Names of the columns by position, free of quoting."""
    return [f"c{i}" for i in range(len(schema.columns))]


def stack(chunks: Sequence[Sequence[pa.Array]], names: Sequence[str]) -> pa.Table:
    """A table from lists of equally many arrays, one list under the other."""
    return pa.Table.from_arrays(
        [pa.chunked_array(list(column)) for column in zip(*chunks, strict=True)], names=list(names)
    )


def sign_columns(value: str, column: Column) -> list[str]:
    """What besides the value itself tells numbers apart: DuckDB takes 0.0 and -0.0 for equal."""
    if column.type == "vector":
        return [f"list_transform({value}, lambda x: signbit(x))"]
    return [f"signbit({value})"] if column.type in ("float", "double") else []


def insert_rows(connection: duckdb.DuckDBPyConnection, target: str, batch: ChangeBatch) -> None:
    """Add the rows of a reading (op "r") to a table of their schema, given as SQL."""
    check_batch(batch)
    images = RowImages(batch, decode_ops(batch)).image("after", [column.name for column in batch.schema.columns], "r")
    names = ", ".join(quote(column.name) for column in batch.schema.columns)
    with rows_as_view(connection, stack([images], positional_names(batch.schema))):
        insert(connection, f"{target} ({names})", positional_names(batch.schema), VIEW)


def insert_table(connection: duckdb.DuckDBPyConnection, target: str, rows: pa.Table) -> None:
    """Add rows, in the types of DuckDB, to a table given as SQL."""
    names = ", ".join(map(quote, rows.column_names))
    with rows_as_view(connection, rows):
        connection.execute(f"INSERT INTO {target} ({names}) FROM {VIEW}")


@contextmanager
def rows_as_view(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> Iterator[None]:
    """The rows are the view VIEW, for the statements of the block."""
    connection.register(VIEW, rows)
    yield
    connection.unregister(VIEW)


def insert(connection: duckdb.DuckDBPyConnection, into: str, columns: Sequence[str], source: str) -> None:
    """Add the columns of `source`, SQL behind FROM, to a table that is given as SQL behind INSERT INTO.

    DuckDB gives an INSERT to all its threads, each of which gathers rows of its own that are copied once more in the
    end: twice the processor's time for the same result. It does not where a part of the source has no order, and an
    aggregate has none; the one here adds no row.
    """
    none = f"SELECT {', '.join('NULL' for _ in columns)} FROM (SELECT count(*) AS n FROM (VALUES (0))) WHERE n < 0"
    connection.execute(f"INSERT INTO {into} SELECT {', '.join(columns)} FROM {source} UNION ALL {none}")
