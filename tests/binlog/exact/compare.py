"""Compares delivered values with SELECT: the server is the oracle.

A table's rows are inserted, each is updated to the values of the next, and all are deleted. So every value occurs in
`after` of an insert, in `before` and `after` of an update, and in `before` of a delete. It is compared in six forms:

    json            the envelope, as any JSON parser reads it
    arrow           the row view of a batch that was an Arrow IPC message in between
    few             the row view of few envelopes, which are decoded without Arrow
    mirror          DuckDB's table, with its key, from those batches
    keyless mirror  the same without a primary key, from batches that were envelopes in between
    snapshot        what a consistent read of the table gives after the inserts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope import EnvelopeContext, decode_arrow, encode_arrow, render
from binlogsync.codec.json_decoder import MOST_AS_VALUES, parse, parse_any
from binlogsync.mirror import apply as mirror
from binlogsync.schema import TableSchema
from binlogsync.snapshot.view import read_table
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.transaction import DuckTransaction
from tests.binlog.dump import config_of, end_of_log, record
from tests.binlog.exact.type_sample import TypeSample
from tests.binlog.exact.value_kinds import KINDS, parse_json
from tests.databases import FreshDatabase

SETTINGS = (
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'",
    "SET SESSION time_zone = '+00:00'",
    "SET NAMES utf8mb4",
)
OLD_FORMAT = ("SET GLOBAL mysql56_temporal_format = OFF", "SET GLOBAL mysql56_temporal_format = ON")
IMAGES: tuple[Literal["before", "after"], ...] = ("before", "after")
Texts = tuple[str | None, ...]


@dataclass(slots=True)
class ComparisonCounts:
    """The number of values compared, by form, and the differences."""

    compared: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    differences: list[str] = field(default_factory=list)

    def check(self, form: str, where: str, expected: object, got: object) -> None:
        """Compare one value."""
        self.compared[form] += 1
        if expected != got:
            selected, delivered = (str(value)[:200] for value in (expected, got))
            self.differences.append(f"{where} as {form}: SELECT {selected!r}, delivered {delivered!r}")

    def line(self, what: str) -> str:
        """A line for the report."""
        forms = ", ".join(f"{form} {count:,}" for form, count in self.compared.items())
        return (
            f"{what}: {self.samples:,} samples x images = {self.compared.total():,} values compared with SELECT "
            f"({forms}), {len(self.differences)} differ"
        )


@dataclass(frozen=True, slots=True)
class FilledTable:
    """A table that was filled, changed and emptied, and the results of SELECT before and after the change, by id."""

    name: str
    columns: tuple[TypeSample, ...]
    first: Mapping[int, Texts]
    second: Mapping[int, Texts]
    snapshot: Sequence[ChangeBatch]

    def expected(self, op: str, image: str) -> Mapping[int, Texts]:
        """The expected values of that image for that operation."""
        return self.first if (op, image) in (("c", "after"), ("u", "before")) else self.second


@contextmanager
def settings(database: FreshDatabase) -> Iterator[None]:
    """Apply the session settings for samples."""
    for statement in SETTINGS:
        database.execute(statement)
    yield


def sample_rows(columns: Sequence[TypeSample]) -> list[list[str]]:
    """Literals for the rows of a table with every value of each sample, and NULL."""
    most = max(len(sample.literals) for sample in columns) + 1
    return [[sample.literal(row) for sample in columns] for row in range(most)]


def fill(
    database: FreshDatabase, name: str, columns: tuple[TypeSample, ...], rows: Sequence[Sequence[str]]
) -> FilledTable:
    """Insert the rows, update each to the next one, and delete all."""
    insert_rows(database, name, columns, rows)
    first = _select(database, name, columns)
    with read_table(config_of(database.server), database.name, name) as reading:
        snapshot = tuple(reading.batches())
    assigned = ", ".join(f"c{k} = VALUES(c{k})" for k in range(len(columns)))
    database.execute(
        f"INSERT INTO {name} VALUES {_values([*rows[1:], rows[0]], 1)} "
        f"ON DUPLICATE KEY UPDATE n = VALUES(n), {assigned}"
    )
    second = _select(database, name, columns)
    database.execute(f"DELETE FROM {name}")
    assert len(first) == len(second) == len(rows)
    return FilledTable(name, columns, first, second, snapshot)


def insert_rows(
    database: FreshDatabase, name: str, columns: tuple[TypeSample, ...], rows: Sequence[Sequence[str]]
) -> None:
    """Create a table of these columns and insert the rows."""
    declared = ", ".join(f"c{k} {sample.ddl} NULL" for k, sample in enumerate(columns))
    before, after = OLD_FORMAT if columns[0].old else ("DO 0", "DO 0")
    database.execute(before)
    database.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, n INT NOT NULL, {declared}) CHARACTER SET utf8mb4")
    database.execute(after)
    database.execute(f"INSERT INTO {name} VALUES {_values(rows, 0)}")


def _values(rows: Sequence[Sequence[str]], n: int) -> str:
    return ",".join(f"({i},{n},{','.join(row)})" for i, row in enumerate(rows))


def _select(database: FreshDatabase, name: str, columns: Sequence[TypeSample]) -> dict[int, Texts]:
    kinds = [KINDS[sample.kind] for sample in columns]
    selected = ", ".join(kind.select.format(v=f"c{k}") for k, kind in enumerate(kinds))
    return {
        int(number): tuple(
            None if value is None else kind.expected(as_text(value)) for kind, value in zip(kinds, values, strict=True)
        )
        for number, *values in database.execute(f"SELECT id, {selected} FROM {name} ORDER BY id")
    }


def as_text(value: object) -> str:
    """A value of the text protocol as text."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def compare_filled(
    database: FreshDatabase, tally: ComparisonCounts, work: Sequence[tuple[str, tuple[TypeSample, ...], Any]]
) -> None:
    """Fill tables of these (name, columns, rows), read the binlog, and compare every form of every value."""
    start = end_of_log(database.server)
    with settings(database):
        filled = [fill(database, name, columns, rows) for name, columns, rows in work]
    done = record(database.server, start, lambda name, table: name == database.name).decoded()
    if done.error is not None:
        raise done.error
    batches: dict[str, list[ChangeBatch]] = {}
    for decoded_range in done.ranges:
        for batch in decoded_range.batches:
            if batch.schema.columns:  # a schema change has none
                batches.setdefault(batch.schema.table, []).append(batch)
    with duckdb.connect() as keyed, duckdb.connect() as keyless:
        for table in filled:
            compare(tally, table, batches[table.name], keyed, keyless)


def compare(
    tally: ComparisonCounts,
    table: FilledTable,
    batches: Sequence[ChangeBatch],
    keyed: duckdb.DuckDBPyConnection,
    keyless: duckdb.DuckDBPyConnection,
) -> None:
    """Compare all images of a table in all forms."""
    tally.samples += sum(len(sample.literals) + 1 if sample.literals else len(table.first) for sample in table.columns)
    schema = batches[0].schema
    types = [column.type for column in schema.columns[2:]]
    assert types == [sample.type for sample in table.columns], types
    messages = [render(batch, EnvelopeContext("tests", 0)).texts() for batch in batches]
    compare_envelopes(tally, table, [parse_json(text) for texts in messages for text in texts])
    _compare_snapshot(tally, table, schema)
    _compare_arrays(tally, table, batches)
    arrows = [decode_arrow(encode_arrow(batch)) for batch in batches]
    _compare_rows(tally, table, "arrow", arrows)
    few = [part for texts in messages for group in _groups(texts) for part in parse_any(group, schema)]
    assert all(batch.holds_python_values for batch in few)
    _compare_rows(tally, table, "few", few)
    compare_mirror(tally, table, "mirror", keyed, arrows)
    without_key = replace(schema, primary_key=())
    back = [batch.with_schema(without_key) for texts in messages for batch in parse(texts, schema)]
    compare_mirror(tally, table, "keyless mirror", keyless, back)


def _groups(texts: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [texts[at : at + MOST_AS_VALUES] for at in range(0, len(texts), MOST_AS_VALUES)]


def compare_envelopes(tally: ComparisonCounts, table: FilledTable, envelopes: Sequence[Mapping[str, Any]]) -> None:
    """Compare the JSON form; `json_null` distinguishes NULL from the JSON value null."""
    assert [envelope["op"] for envelope in envelopes] == _ops(table)
    for envelope in envelopes:
        json_nulls = envelope["source"].get("json_null", [])
        for where, sample, text, value, path in _cells(table, envelope["op"], envelope):
            kind = KINDS[sample.kind]
            tally.check(
                "json",
                where,
                None if text is None else kind.wired(text),
                None if value is None else kind.wire(value, sample.fsp),
            )
            if sample.kind == "json":
                assert (path in json_nulls) == (text == "null"), where


def _compare_rows(tally: ComparisonCounts, table: FilledTable, form: str, batches: Sequence[ChangeBatch]) -> None:
    """Compare the row views."""
    changes = [change for batch in batches for change in batch.changes()]
    assert [change.op for change in changes] == _ops(table)
    for change in changes:
        images = {"before": change.before, "after": change.after}
        for where, sample, text, value, _ in _cells(table, change.op, images):
            got = None if value is None else KINDS[sample.kind].row(value, sample.fsp)
            tally.check(form, where, text, got)


def _compare_snapshot(tally: ComparisonCounts, table: FilledTable, schema: TableSchema) -> None:
    """Compare the snapshot, whose schema must be that of the TABLE_MAPs."""
    [batch] = table.snapshot
    for read, logged in zip(batch.schema.columns, schema.columns, strict=True):
        assert read == replace(logged, labels=tuple(map(_as_declared, logged.labels)))
    assert batch.schema.primary_key == schema.primary_key
    for change in batch.changes():
        assert (change.op, change.before) == ("r", None)
        row = change.after or {}
        for k, (sample, text) in enumerate(zip(table.columns, table.first[row["id"]], strict=True)):
            got = None if row[f"c{k}"] is None else KINDS[sample.kind].row(row[f"c{k}"], sample.fsp)
            tally.check("snapshot", f"{sample.name} row {row['id']}", text, got)


def _compare_arrays(tally: ComparisonCounts, table: FilledTable, batches: Sequence[ChangeBatch]) -> None:
    """Compare the arrays of the snapshot with those that the binlog decoder gives for the inserts, value by value."""
    [read] = table.snapshot
    inserted = [batch.select(_has_op(batch, "c")) for batch in batches]
    images = pa.chunked_array([batch.data.column("after") for batch in inserted if len(batch)])
    assert read.data.schema.field("after").type == images.type
    for k, column in enumerate(read.schema.columns):
        got = read.data.column("after").field(k)
        expected = pc.struct_field(images, k).combine_chunks()
        if pa.types.is_dictionary(got.type):  # an ENUM: the same labels, whose numbers may differ
            got, expected = got.cast(pa.string()), expected.cast(pa.string())
        tally.check("snapshot arrays", f"{table.name}.{column.name}", True, got.equals(expected))


def _as_declared(label: str) -> str:
    """The label as the server declares it: a character outside the basic plane is a question mark."""
    return "".join(character if character <= "\uffff" else "?" for character in label)


def _ops(table: FilledTable) -> list[str]:
    return [op for op in "cud" for _ in table.first]


def _cells(
    table: FilledTable, op: str, images: Mapping[str, Any]
) -> Iterator[tuple[str, TypeSample, str | None, Any, str]]:
    """For each value of both images: its location, sample, SELECT's text, the value, "image.column"."""
    for image in IMAGES:
        row = images[image]
        assert (row is None) == ((op, image) in (("c", "before"), ("d", "after")))
        if row is None:
            continue
        expected = table.expected(op, image)[row["id"]]
        for k, (sample, text) in enumerate(zip(table.columns, expected, strict=True)):
            where = f"{sample.name} {op} {image} row {row['id']}"
            yield where, sample, text, row[f"c{k}"], f"{image}.c{k}"


def compare_mirror(
    tally: ComparisonCounts,
    table: FilledTable,
    form: str,
    connection: duckdb.DuckDBPyConnection,
    batches: Sequence[ChangeBatch],
) -> None:
    """Compare DuckDB's table after the inserts and after the updates; after the deletes it must be empty."""
    connection.execute("SET TimeZone = 'UTC'")
    name = quote(batches[0].schema.database, table.name)
    for op, expected in (("c", table.first), ("u", table.second), ("d", {})):
        mirror.apply(DuckTransaction(connection), [batch.select(_has_op(batch, op)) for batch in batches])
        rows = {row[0]: row[2:] for row in connection.execute(f"SELECT * FROM {name} ORDER BY id").fetchall()}
        if not expected:
            tally.check(form, f"{table.name} after its deletes", 0, len(rows))
        for number, texts in expected.items():
            for sample, text, value in zip(table.columns, texts, rows.get(number, ()), strict=True):
                kind = KINDS[sample.kind]
                got = None if value is None else (kind.mirror or kind.row)(value, sample.fsp)
                selected = None if text is None else kind.mirrored(text)
                tally.check(form, f"{sample.name} {op} row {number}", selected, got)


def _has_op(batch: ChangeBatch, op: str) -> pa.BooleanArray:
    return pc.equal(batch.data.column("op").cast(pa.string()), op)
