"""Changes in columns (`ChangeBatch`), the data that all parts exchange.

A ChangeBatch holds changes of one table under one schema, in binlog order, as an Arrow RecordBatch of these columns:

    op       dictionary<int8, string>   "c" create, "u" update, "d" delete, "r" read by snapshot, "t" truncate
    before   struct of the table's columns, NULL for c, r and t; a column absent from a partial image is an absent child
    after    the same, NULL for d and t
    ts_us    timestamp[us, UTC]         commit time at the source
    gtid     dictionary<int32, string>  transaction, NULL where the server has no GTIDs
    file     dictionary<int32, string>  binlog file
    pos      uint64                     offset after the event that holds the change
    row      uint32                     number of the change in that event, from 0
    txn_pos  uint64                     offset where the transaction begins
    order    uint64                     number of the change in its transaction, from 0, filtered tables counted
    seq      int64                      number of the change in the run of its reader: merges the tables in order

On one server (file, pos, row) and (file, txn_pos, order) both put all changes in the same order, and neither repeats.

A row that a snapshot publishes into the stream (op "r") belongs to no transaction. Its `pos` and `txn_pos` are those of
the transaction boundary at which it was published, `row` and `order` its ordinal, which increases over the snapshots at
one position, and `gtid` is "snapshot:" and the id of the snapshot. So (file, pos, row) puts it in the order of the
stream, and `Change.id` is unique. (file, txn_pos, order) does so only with the op: it precedes the transaction that
begins at `txn_pos`. Ordinals begin at FIRST_ORDINAL (position.py), above the numbers of all changes.

A table without a key for chunks is published as a whole: a change with the op "t" empties the table, and all its rows
follow. Their `gtid` ends in ":first", ":true" or ":last" (SNAPSHOT_STAGES).

A schema change is a separate batch, in binlog order among the changes, one for each table that it affects: `ddl` holds
the statement, the op is "s", and the images have no columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import SCHEMA_OP, Change, ImageName, Op, RowChange, SchemaChange, SourceInfo, SourceValues
from binlogsync.position import SNAPSHOT
from binlogsync.schema import TableSchema
from binlogsync.values import as_dicts, present_columns, python_values, spread

OP_TYPE = pa.dictionary(pa.int8(), pa.string())
NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
TIME_TYPE = pa.timestamp("us", "UTC")

SOURCE_FIELDS: tuple[pa.Field, ...] = (
    pa.field("ts_us", TIME_TYPE),
    pa.field("gtid", NAME_TYPE),
    pa.field("file", NAME_TYPE),
    pa.field("pos", pa.uint64()),
    pa.field("row", pa.uint32()),
    pa.field("txn_pos", pa.uint64()),
    pa.field("order", pa.uint64()),
    pa.field("seq", pa.int64()),
)


@cache
def unix_epoch() -> datetime:
    """The beginning of 1970; its time zone is the object that pyarrow has in its timestamps."""
    return datetime(1970, 1, 1, tzinfo=pa.lib.string_to_tzinfo("UTC"))


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes of one table under one schema, in binlog order; see the module for the columns of `data`.

    Attributes:
        schema: of the table, from the TABLE_MAP event of these changes.
        data: the columns.
        server_uuid, server_id: of the server that wrote the binlog.
        impossible: values that Arrow cannot represent (zero and invalid dates), as MySQL prints them:
            (image, column) -> string array as long as the batch, NULL except at those values, which are NULL in `data`.
        ddl: the statement, when the batch is a schema change: it then has one row, and no row views.
    """

    schema: TableSchema
    data: pa.RecordBatch
    server_uuid: str
    server_id: int
    impossible: Mapping[tuple[ImageName, str], pa.StringArray] = field(default_factory=dict)
    ddl: SchemaChange | None = None
    _nbytes: int | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def holds_python_values(self) -> bool:
        """True if `changes` costs less than `present`, because the values are Python values already."""
        return False

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the values, slices counted as slices; computed once, because that takes as long as other work on a
        small batch.
        """
        if self._nbytes is None:
            object.__setattr__(self, "_nbytes", int(self.data.nbytes))
        return cast(int, self._nbytes)

    def slice(self, start: int, stop: int) -> ChangeBatch:
        """The changes start..stop-1, sharing memory."""
        impossible = {key: texts.slice(start, stop - start) for key, texts in self.impossible.items()}
        data = self.data.slice(start, stop - start)
        return ChangeBatch(self.schema, data, self.server_uuid, self.server_id, impossible, self.ddl)

    def with_schema(self, schema: TableSchema) -> ChangeBatch:
        """The same changes under another schema of the same columns."""
        return ChangeBatch(schema, self.data, self.server_uuid, self.server_id, self.impossible, self.ddl)

    def with_seqs(self, seqs: Iterable[int]) -> ChangeBatch:
        """The same changes with these values of `seq`, an array for example."""
        index = self.data.schema.get_field_index("seq")
        data = self.data.set_column(index, self.data.schema.field(index), pa.array(seqs, pa.int64()))
        return ChangeBatch(self.schema, data, self.server_uuid, self.server_id, self.impossible, self.ddl)

    def select(self, mask: pa.BooleanArray) -> ChangeBatch:
        """The changes where `mask` is true."""
        impossible = {key: texts.filter(mask) for key, texts in self.impossible.items()}
        return ChangeBatch(self.schema, self.data.filter(mask), self.server_uuid, self.server_id, impossible, self.ddl)

    def count_ops(self) -> dict[str, int]:
        """Number of changes by op; a schema change is not counted."""
        if self.ddl is not None:
            return {}
        ops = self.data.column("op")
        if len(ops) == 1:  # as often as changes arrive alone
            return {ops[0].as_py(): 1}
        indices, counts = (column.to_pylist() for column in pc.value_counts(ops.indices).flatten())
        found = dict(zip(indices, counts, strict=True))
        return {op: found[index] for index, op in enumerate(ops.dictionary.to_pylist()) if index in found}

    def seqs(self) -> Sequence[int]:
        """`seq` of each change."""
        numbers: Sequence[int] = self.data.column("seq").to_numpy()
        return numbers

    def source_values(self, row: int) -> SourceValues:
        """The source columns of one change."""
        ts_us, *others = (self.data.column(item.name)[row] for item in SOURCE_FIELDS)
        return SourceValues(ts_us.cast(pa.int64()).as_py(), *(value.as_py() for value in others))

    def published_rows(self) -> pa.BooleanArray | None:
        """Which changes are rows that a snapshot has published into the stream, or the reset before the rows of a whole
        table; None if there are none.
        """
        op = self.data.column("op")
        labels = op.dictionary.to_pylist()
        numbers = [number for number, label in enumerate(labels) if label in ("r", "t")]
        is_read = pc.is_in(op.indices, pa.array(numbers, op.indices.type)) if numbers else None
        if is_read is None or not is_read.true_count:
            return None
        names = self.data.column("gtid").cast(pa.string())
        mask = pc.and_(is_read, pc.starts_with(names, SNAPSHOT).fill_null(False))
        return mask if mask.true_count else None

    def merged_rows(self) -> pa.BooleanArray | None:
        """Which of the `published_rows` were merged with the changes by their key: the table may have them already.

        The others follow a reset of the table, and all of them are new. None if there are none.
        """
        published = self.published_rows()
        if published is None:
            return None
        stages = pc.count_substring(self.data.column("gtid").cast(pa.string()), ":")
        mask = pc.and_(published, pc.equal(stages, 1).fill_null(False))
        return mask if mask.true_count else None

    def ids(self) -> pa.StringArray:
        """`Change.id` of each change."""
        text = {name: self.data.column(name).cast(pa.string()) for name in ("gtid", "order", "file", "pos", "row")}
        by_gtid = pc.binary_join_element_wise(text["gtid"], text["order"], ":")
        by_place = pc.binary_join_element_wise(self.server_uuid, text["file"], text["pos"], text["row"], ":")
        return pc.coalesce(by_gtid, by_place)

    def present(self, image: ImageName) -> Mapping[str, list[Any]]:
        """Values of each column of an image, of the changes that have it: Arrow's own Python values (BIT(1) bool, TIME
        timedelta), impossible dates as text."""
        struct: pa.StructArray = self.data.column(image)
        columns = present_columns(struct)
        for (where, column), texts in self.impossible.items():
            if where == image and texts.null_count < len(texts):
                own = texts.filter(struct.is_valid()).to_pylist()
                values = columns[column]
                values[:] = [value if text is None else text for value, text in zip(values, own, strict=True)]
        return columns

    def changes(self) -> Iterator[RowChange]:
        """Row views in order, created lazily, with the values of `present`; a schema change has no row views."""
        if self.ddl is not None:
            return iter(())
        return self.views(self.present("before"), self.present("after"))

    def views(self, before: Mapping[str, list[Any]], after: Mapping[str, list[Any]]) -> Iterator[RowChange]:
        """The same, from the values that `present` returned for both images."""
        images = (spread(self.data.column(name), as_dicts(own)) for name, own in (("before", before), ("after", after)))
        ops = python_values(self.data.column("op"))
        columns = [python_values(self.data.column(name)) for name in ("ts_us", "gtid", "file", "pos", "row", "order")]
        is_read = (
            op == "r" or (op == "t" and str(gtid).startswith(SNAPSHOT))
            for op, gtid in zip(ops, columns[1], strict=True)
        )
        places = zip(*columns, is_read, strict=True)
        server: tuple[Any, ...] = (self.server_uuid, self.server_id, self.schema.database, self.schema.table)
        # Not strict: of images without a column there is no end.
        for op, place, old, new in zip(ops, places, *images):  # noqa: B905
            yield Change(op, old, new, SourceInfo(*server, *place))


def build_schema_batch(
    ddl: SchemaChange, table: tuple[str, str], source: Mapping[str, Any], server: tuple[str, int]
) -> ChangeBatch:
    """The batch of a schema change for one (database, table); `source` holds a value for each of SOURCE_FIELDS."""
    nothing = pa.nulls(1, pa.struct([]))
    columns = {name: [value] for name, value in source.items()}
    batch = build_batch(TableSchema(*table, ()), [cast(Op, SCHEMA_OP)], (nothing, nothing), columns, server)
    return replace(batch, ddl=ddl)


def build_batch(
    schema: TableSchema,
    ops: Sequence[Op] | pa.DictionaryArray,
    images: tuple[pa.StructArray, pa.StructArray],
    source: Mapping[str, pa.Array | Sequence[object]],
    server: tuple[str, int],
    impossible: Mapping[tuple[ImageName, str], pa.StringArray] | None = None,
) -> ChangeBatch:
    """A ChangeBatch from its parts, `source` by the names of SOURCE_FIELDS, `server` as (server_uuid, server_id).

    Sequences are converted; Arrow arrays of the right type are taken as they are.
    """
    if not isinstance(ops, pa.DictionaryArray):
        ops = _labels(ops, OP_TYPE)
    arrays: list[pa.Array] = [ops, *images]
    for item in SOURCE_FIELDS:
        values = source[item.name]
        if not isinstance(values, pa.Array):
            values = _labels(values, NAME_TYPE) if item.type == NAME_TYPE else pa.array(values, item.type)
        if values.type != item.type:
            values = values.dictionary_encode().cast(item.type) if item.type == NAME_TYPE else values.cast(item.type)
        arrays.append(values)
    fields = [
        pa.field("op", OP_TYPE),
        pa.field("before", images[0].type),
        pa.field("after", images[1].type),
        *SOURCE_FIELDS,
    ]
    return ChangeBatch(schema, pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)), *server, impossible or {})


def _labels(values: Sequence[Any], kind: pa.DictionaryType) -> pa.DictionaryArray:
    """The texts, or None, with a dictionary in the order in which they occur."""
    numbers: dict[str, int] = {}
    indices = [None if value is None else numbers.setdefault(value, len(numbers)) for value in values]
    dictionary = pa.array(list(numbers), kind.value_type)
    return pa.DictionaryArray.from_arrays(pa.array(indices, kind.index_type), dictionary)
