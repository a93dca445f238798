"""Sample schemas, batches and flushes for tests: every column type, and values computed from the row number.

    sample_schema()                 one table with a column of every type that schema.arrow_type knows
    sample_batch(10)                a ChangeBatch of ten changes of it
    sample_flush(4)                 a Flush of four transactions over two tables
    source = SampleSource(options)  several flushes, each starting at the end of the previous one:
    source.flush(3); source.flush([SampleTransaction((0, 1, None)), SampleTransaction((0,) * 9, take=4)])

The changes of a table are consistent in order: of each four, row 2j+1 is created and updated, row 2j+2 created and
deleted, and each `before` equals the previous `after`. So a mirror can apply them, and `sample_row` returns its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa

from binlogsync.change import Op
from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.flush import Flush, TransactionRun
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.schema import Column, TableSchema
from binlogsync.server_version import ServerFlavor

SERVER_UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
SERVER_ID = 7
FIRST_TS_US = 1_700_000_000_000_000
ZERO_DATE = "0000-00-00"
IMPOSSIBLE_EVERY = 5
_GTID_EVENT, _ROWS_EVENT, _COMMIT_EVENT, _FILE_HEAD = 80, 60, 31, 157

_LABELS = ("red", "gr'een", "blue, light")
_COLUMNS: tuple[tuple[Column, Callable[[int], Any]], ...] = (
    (Column("id", "bigint", nullable=False, unsigned=True), lambda i: i),
    (Column("c_tinyint", "tinyint"), lambda i: -128 + i % 256),
    (Column("c_utinyint", "tinyint", unsigned=True), lambda i: 255 - i % 256),
    (Column("c_smallint", "smallint"), lambda i: -32768 + i % 65536),
    (Column("c_usmallint", "smallint", unsigned=True), lambda i: 65535 - i % 65536),
    (Column("c_mediumint", "mediumint"), lambda i: -8388608 + i),
    (Column("c_umediumint", "mediumint", unsigned=True), lambda i: 16777215 - i),
    (Column("c_int", "int"), lambda i: -2147483648 + i),
    (Column("c_uint", "int", unsigned=True), lambda i: 4294967295 - i),
    (Column("c_bigint", "bigint"), lambda i: -(2**63) + i),
    (Column("c_ubigint", "bigint", unsigned=True), lambda i: 2**64 - 1 - i),
    (Column("c_float", "float"), lambda i: -0.5 * i),
    (Column("c_double", "double"), lambda i: i / 3),
    (Column("c_decimal", "decimal", precision=10, scale=2), lambda i: Decimal(-i * 7 - 5) / 100),
    (Column("c_wide_decimal", "decimal", precision=65, scale=30), lambda i: Decimal(i) + Decimal("0." + "1" * 30)),
    (Column("c_char", "char", length=20, charset="utf8mb4"), lambda i: f"char {i}"),
    (Column("c_varchar", "varchar", length=200, charset="utf8mb4"), lambda i: f"höhe 树洞 🌲 {i}"),
    (Column("c_tinytext", "tinytext", charset="latin1"), lambda i: f"naïve {i}"),
    (Column("c_text", "text", charset="utf8mb4"), lambda i: f'line\n"quoted" \\ {i}'),
    (Column("c_mediumtext", "mediumtext", charset="utf8mb4"), lambda i: "m" * (i % 50)),
    (Column("c_longtext", "longtext", charset="utf8mb4"), lambda i: "l" * (i % 300)),
    (Column("c_binary", "binary", length=4), lambda i: i.to_bytes(4, "big")),
    (Column("c_varbinary", "varbinary", length=30), lambda i: b"\x00\xff" + str(i).encode()),
    (Column("c_tinyblob", "tinyblob"), lambda i: b"t" * (i % 9)),
    (Column("c_blob", "blob"), lambda i: bytes(range(i % 256))),
    (Column("c_mediumblob", "mediumblob"), lambda i: b"\x80" * (i % 40)),
    (Column("c_longblob", "longblob"), lambda i: b"\x00" * (i % 90)),
    (Column("c_date", "date"), lambda i: date(1000, 1, 1) + timedelta(days=i)),
    (Column("c_datetime", "datetime"), lambda i: datetime(9999, 12, 31, 23, 59, 59) - timedelta(seconds=i)),
    (Column("c_datetime6", "datetime", fsp=6), lambda i: datetime(2024, 2, 29, 1, 2, 3, i % 1_000_000)),
    (Column("c_timestamp", "timestamp"), lambda i: datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC) + timedelta(seconds=i)),
    (Column("c_timestamp3", "timestamp", fsp=3), lambda i: datetime(2024, 5, 6, 7, 8, 9, i % 1000 * 1000, tzinfo=UTC)),
    (Column("c_time", "time"), lambda i: timedelta(hours=838, minutes=59, seconds=59 - i)),
    (Column("c_time6", "time", fsp=6), lambda i: -timedelta(hours=i % 800, microseconds=i)),
    (Column("c_year", "year"), lambda i: 1901 + i % 255),
    (Column("c_enum", "enum", charset="utf8mb4", labels=_LABELS), lambda i: _LABELS[i % 3]),
    (Column("c_set", "set", charset="utf8mb4", labels=_LABELS), lambda i: list(_LABELS[: i % 4])),
    (Column("c_bit1", "bit", length=1), lambda i: i % 2 == 0),
    (Column("c_bit64", "bit", length=64), lambda i: 2**64 - 1 - i),
    (Column("c_geometry", "geometry"), lambda i: {"srid": i % 3 * 4326, "wkb": b"\x01\x01" + bytes(i % 20)}),
    (Column("c_vector", "vector", length=8), lambda i: [i / 4, -0.0, 1.5][: i % 4]),
    (Column("c_uuid", "uuid"), lambda i: f"{i:08x}-0000-4000-8000-000000000000"),
    (Column("c_inet4", "inet4"), lambda i: f"10.0.{i % 256}.1"),
    (Column("c_inet6", "inet6"), lambda i: f"2001:db8::{i % 65536:x}"),
    (Column("c_json", "json"), lambda i: f'{{"i": {i}, "list": [null, true, 1.5, "ü"]}}'),
)
_VALUES = {column.name: value for column, value in _COLUMNS}
_NULL_EVERY = 11


def sample_schema(
    table: str = "samples", database: str = "shop", primary_key: tuple[str, ...] = ("id",)
) -> TableSchema:
    """A table with a column of every type; `id` is its first column, and the only NOT NULL column."""
    return TableSchema(database, table, tuple(column for column, _ in _COLUMNS), primary_key)


def small_schema(table: str) -> TableSchema:
    """One table with two of the columns."""
    whole = sample_schema(table)
    return TableSchema(whole.database, table, tuple(c for c in whole.columns if c.name in ("id", "c_varchar")), ("id",))


def sample_row(number: int, version: int = 0, schema: TableSchema | None = None) -> dict[str, Any]:
    """The row with that `id` after that many updates, as Arrow gives it to Python; one value in eleven is NULL.

    `schema` needs column names of sample_schema.
    """
    values = number + 1000 * version
    row: dict[str, Any] = {}
    for place, column in enumerate((schema or sample_schema()).columns):
        is_null = column.nullable and (number + place) % _NULL_EVERY == 0
        row[column.name] = None if is_null else _VALUES[column.name](number if column.name == "id" else values)
    return row


def sample_change(
    number: int, schema: TableSchema | None = None
) -> tuple[Op, dict[str, Any] | None, dict[str, Any] | None]:
    """Change `number` (from 0) of a table: op, before, after."""
    group, step = divmod(number, 4)
    kept, gone = 2 * group + 1, 2 * group + 2
    if step == 0:
        return "c", None, sample_row(kept, 0, schema)
    if step == 1:
        return "u", sample_row(kept, 0, schema), sample_row(kept, 1, schema)
    if step == 2:
        return "c", None, sample_row(gone, 0, schema)
    return "d", sample_row(gone, 0, schema), None


@dataclass(frozen=True, slots=True)
class SampleTransaction:
    """One transaction.

    Attributes:
        tables: for each change in order the index of its table in SampleOptions.tables; None: a filter excluded it.
        file: number of its binlog file; None for the file of the previous transaction.
        key: GTID key ("uuid:tag", MariaDB "domain-server_id"); None for the source's own.
        take: the flush ends after this number of its changes, and the next flush starts with the rest; None for all.
    """

    tables: tuple[int | None, ...] = (0,)
    file: int | None = None
    key: str | None = None
    take: int | None = None


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """How a SampleSource writes: tables, GTIDs (None for none), rows of one event, rows of one batch, zero dates."""

    source: str = "demo"
    tables: tuple[TableSchema, ...] = field(default_factory=lambda: (sample_schema(), sample_schema("notes")))
    flavor: ServerFlavor | None = ServerFlavor.MYSQL
    rows_per_event: int = 2
    rows_per_batch: int | None = None
    impossible: bool = False


@dataclass(slots=True)
class _BinlogState:
    """The current position of the simulated binlog."""

    file: int = 1
    pos: int = _FILE_HEAD
    seq: int = 0
    ts_us: int = FIRST_TS_US
    flushes: int = 0

    @property
    def position(self) -> BinlogPosition:
        return BinlogPosition(f"binlog.{self.file:06d}", self.pos)


_TableRows = dict[int, list[dict[str, Any]]]


class SampleSource:
    """Creates consecutive flushes, as a tail would create them from one binlog."""

    def __init__(self, options: SampleOptions | None = None) -> None:
        self.options = options or SampleOptions()
        self._at = _BinlogState()
        self._written = [0] * len(self.options.tables)
        self._sequences: dict[str, int] = {}
        self._open: tuple[SampleTransaction, TransactionRun] | None = None
        gtids = GtidSet(self.options.flavor) if self.options.flavor else None
        server = f"mariadb:{SERVER_ID}" if self.options.flavor == ServerFlavor.MARIADB else SERVER_UUID
        self.checkpoint = Checkpoint(self._at.position, server, gtids)

    def flush(self, transactions: int | Sequence[SampleTransaction] = 4) -> Flush:
        """The next flush; a number asks for that many transactions of one, two and three changes over all tables.

        A transaction left open by `take` is finished first.
        """
        start, rows, runs = self.checkpoint, _TableRows(), list[TransactionRun]()
        if self._open is not None:
            transaction, run = self._open
            self._open = None
            runs.append(self._write(replace(transaction, take=None), rows, run))
        for transaction in self._plan(transactions) if isinstance(transactions, int) else transactions:
            runs.append(self._write(transaction, rows, None))
        self._at.flushes += 1
        return Flush(
            source=self.options.source,
            number=self._at.flushes,
            reason="rows",
            batches=tuple(self._batches(rows)),
            start=start,
            checkpoint=self.checkpoint,
            runs=tuple(_join_runs(runs)),
            opened_us=self._at.ts_us,
            closed_us=self._at.ts_us + 3_000_000,
        )

    def _plan(self, count: int) -> list[SampleTransaction]:
        tables = len(self.options.tables)
        return [SampleTransaction(tuple((i + j) % tables for j in range(1 + i % 3))) for i in range(count)]

    def _write(self, transaction: SampleTransaction, rows: _TableRows, begun: TransactionRun | None) -> TransactionRun:
        """Add its changes to `rows`; advance position and checkpoint. `begun` is its run if partly written."""
        assert self._open is None, "only the last transaction of a flush can be cut"
        run = begun or self._begin(transaction)
        first = self.checkpoint.skip if begun else 0
        gtid = (
            None
            if run.key is None
            else f"{run.key}{'-' if self.options.flavor == ServerFlavor.MARIADB else ':'}{run.first}"
        )
        for order, table in list(enumerate(transaction.tables))[first : transaction.take]:
            row = order % self.options.rows_per_event
            self._at.pos += 0 if row else _ROWS_EVENT
            if table is None:
                continue
            coordinates = {"file": self._at.position.file, "pos": self._at.pos, "row": row, "txn_pos": run.begin[0]}
            number = self._written[table]
            rows.setdefault(table, []).append(
                {
                    "number": number,
                    "ts_us": self._at.ts_us,
                    "gtid": gtid,
                    "order": order,
                    "seq": self._at.seq,
                    **coordinates,
                }
            )
            self._written[table] += 1
            self._at.seq += 1
        if transaction.take is None:
            self._commit(run)
        else:
            self._open = transaction, run
            at = BinlogPosition(run.file, run.begin[0])
            cut = replace(self.checkpoint, position=at, skip=transaction.take, ts_us=self._at.ts_us)
            self.checkpoint = replace(cut, inside=gtid if transaction.take else None)
        return run

    def _begin(self, transaction: SampleTransaction) -> TransactionRun:
        if transaction.file is not None and transaction.file > self._at.file:
            self._at.file, self._at.pos = transaction.file, _FILE_HEAD
        key, sequence = None, 0
        if self.options.flavor is not None:
            key = transaction.key or (SERVER_UUID if self.options.flavor == ServerFlavor.MYSQL else f"0-{SERVER_ID}")
            name = key if self.options.flavor == ServerFlavor.MYSQL else key.partition("-")[0]
            sequence = self._sequences[name] = self._sequences.get(name, 0) + 1
        run = TransactionRun(key, sequence, self._at.position.file, [self._at.pos], [self._at.seq])
        self._at.pos += _GTID_EVENT
        self._at.ts_us += 1_000_003
        return run

    def _commit(self, run: TransactionRun) -> None:
        self._at.pos += _COMMIT_EVENT
        gtids = self.checkpoint.gtids
        if gtids is not None and run.key is not None:
            gtids = gtids.with_run(run.key, run.first, run.first)
        self.checkpoint = Checkpoint(self._at.position, self.checkpoint.server_uuid, gtids, 0, self._at.ts_us)

    def _batches(self, rows: _TableRows) -> list[ChangeBatch]:
        server = (self.checkpoint.server_uuid, SERVER_ID)
        batches = []
        for table, written in sorted(rows.items()):
            size = self.options.rows_per_batch or len(written)
            for i in range(0, len(written), size):
                part = written[i : i + size]
                batches.append(_batch(self.options.tables[table], part, server, self.options.impossible))
        return batches


def _join_runs(runs: Sequence[TransactionRun]) -> list[TransactionRun]:
    """Runs of one transaction each, joined where GTIDs count up by one in one file, as a reader does."""
    joined: list[TransactionRun] = []
    for run in runs:
        last = joined[-1] if joined else None
        if (
            last
            and (last.key, last.file) == (run.key, run.file)
            and (not run.key or run.first == last.first + len(last.begin))
        ):
            begin, first_seq = ([*last.begin, *run.begin], [*last.first_seq, *run.first_seq])
            joined[-1] = replace(last, begin=begin, first_seq=first_seq)
        else:
            joined.append(run)
    return joined


def _batch(
    schema: TableSchema, rows: Sequence[Mapping[str, Any]], server: tuple[str, int], impossible: bool
) -> ChangeBatch:
    changes = [sample_change(row["number"], schema) for row in rows]
    zero: dict[tuple[Literal["before", "after"], str], pa.StringArray] = {}
    if impossible and any(column.name == "c_date" for column in schema.columns):
        zero["before", "c_date"] = _zero_dates([before for _, before, _ in changes])
        zero["after", "c_date"] = _zero_dates([after for _, _, after in changes])
    images = tuple(pa.array([change[i] for change in changes], schema.image_type()) for i in (1, 2))
    names = ("ts_us", "gtid", "file", "pos", "row", "txn_pos", "order", "seq")
    columns = {name: [row[name] for row in rows] for name in names}
    return build_batch(schema, [change[0] for change in changes], (images[0], images[1]), columns, server, zero)


def _zero_dates(images: Sequence[dict[str, Any] | None]) -> pa.StringArray:
    """Remove c_date from every fifth row; return the text of these rows."""
    texts: list[str | None] = []
    for image in images:
        is_zero = image is not None and image["id"] % IMPOSSIBLE_EVERY == 0
        if image is not None and is_zero:
            image["c_date"] = None
        texts.append(ZERO_DATE if is_zero else None)
    return pa.array(texts, pa.string())


def sample_batch(
    n: int, schema: TableSchema | None = None, *, impossible: bool = False, per_transaction: int = 3
) -> ChangeBatch:
    """`n` changes (at least 1) of one table, `per_transaction` to a transaction, with MySQL GTIDs.

    With `impossible`, rows whose id is divisible by five have the date 0000-00-00 in c_date.
    """
    source = SampleSource(SampleOptions(tables=(schema or sample_schema(),), impossible=impossible))
    sizes = [per_transaction] * (n // per_transaction) + ([n % per_transaction] if n % per_transaction else [])
    return source.flush([SampleTransaction((0,) * size) for size in sizes]).batches[0]


def sample_flush(transactions: int | Sequence[SampleTransaction] = 4, options: SampleOptions | None = None) -> Flush:
    """The first flush of a new SampleSource."""
    return SampleSource(options).flush(transactions)
