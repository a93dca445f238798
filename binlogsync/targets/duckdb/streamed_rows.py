"""Inserts rows of a table into DuckDB while they are read, by one statement for any number of batches.

DuckDB pulls each batch when it has stored the one before, so memory is bounded by one batch. One statement costs less
than one for each batch: DuckDB fills whole row groups, compresses them once, and writes them to the file and not to the
write-ahead log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import duckdb
import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.schema import TableSchema, arrow_type
from binlogsync.targets.batch_checks import check_batch, decode_ops
from binlogsync.targets.duckdb.arrow_statement import ROWS
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.metadata_columns import METADATA_ARROW_TYPES, metadata_arrays, metadata_names
from binlogsync.targets.duckdb.row_images import (
    RowImages,
    insert,
    positional_names,
)


class _Stream:
    """The record batches that DuckDB pulls. Counts the rows, and keeps the error that ended them."""

    def __init__(self, schema: TableSchema, batches: Iterable[ChangeBatch], metadata: Sequence[str]) -> None:
        self.rows = 0
        self.error: BaseException | None = None
        self._names = [column.name for column in schema.columns]
        self._batches = batches
        kinds = (arrow_type(column) for column in schema.columns)
        # DuckDB has no decimals of more than 38 digits: they are text in a mirror.
        stored = (pa.string() if pa.types.is_decimal256(kind) else kind for kind in kinds)
        fields = list(zip(positional_names(schema), stored, strict=True))
        self._metadata = metadata
        kinds_of_metadata = (METADATA_ARROW_TYPES[name] for name in metadata)
        fields += list(zip(metadata_names(metadata), kinds_of_metadata, strict=True))
        self._schema = pa.schema(fields)

    def reader(self) -> pa.RecordBatchReader:
        """A reader for one scan."""
        return pa.RecordBatchReader.from_batches(self._schema, self._pull())

    def _pull(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                check_batch(batch)
                images = RowImages(batch, decode_ops(batch))
                columns = [*images.image("after", self._names, "r"), *metadata_arrays(images, self._metadata, "after")]
                self.rows += len(batch)
                yield pa.RecordBatch.from_arrays(columns, schema=self._schema)
        except BaseException as error:
            self.error = error
            raise


def insert_batches(
    connection: duckdb.DuckDBPyConnection,
    target: str,
    schema: TableSchema,
    batches: Iterable[ChangeBatch],
    metadata: Sequence[str] = (),
) -> int:
    """Insert the rows of a snapshot (op "r"), all of this schema, into a table of the schema, given as SQL, which also
    has these metadata columns.

    `batches` may read from a server: they are pulled one at a time, in a thread of DuckDB, and must not use this
    connection. Returns the number of rows. Runs in the transaction of `connection`; raises what `batches` raises, and
    ConsumeError for incomplete row images.
    """
    stream = _Stream(schema, batches, metadata)
    names = ", ".join(map(quote, (*(column.name for column in schema.columns), *metadata)))
    columns = [*positional_names(schema), *metadata_names(metadata)]
    try:
        insert(connection, f"{target} ({names})", columns, ROWS, stream.reader())
    except duckdb.Error:
        if stream.error is not None:
            raise stream.error from None
        raise
    return stream.rows
