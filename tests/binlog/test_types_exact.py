"""Every value is exact: what the reader delivers equals what SELECT returns, for inserts, updates and deletes.

The server is the oracle. TYPE_SAMPLES drives the first half, generated rows the second; each value is looked at as a
change and as the JSON of its envelope.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binlogsync.change import RowChange
from binlogsync.envelope import EnvelopeContext, render
from tests.binlog.dump import Recording, changes_of, end_of_log, record
from tests.binlog.type_samples import TYPE_SAMPLES, Sample, kind_of, time_text
from tests.databases import FreshDatabase

SETTINGS = (
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'",
    "SET SESSION time_zone = '+00:00'",
    "SET NAMES utf8mb4",
)
Texts = dict[int, str | None]
Image = Literal["before", "after"]


@dataclass(slots=True)
class Tally:
    """Values compared, and those that differ."""

    compared: int = 0
    differences: list[str] = field(default_factory=list)

    def check(self, where: str, expected: object, got: object) -> None:
        """Compare one value."""
        self.compared += 1
        if expected != got:
            self.differences.append(f"{where}: SELECT {str(expected)[:200]!r}, delivered {str(got)[:200]!r}")


@dataclass(slots=True)
class Written:
    """A table filled with one sample, and what SELECT said of it in between."""

    sample: Sample
    name: str
    first: Texts
    second: Texts

    def expected(self, op: str, image: Image) -> Texts:
        """What that image of these changes must hold, by id."""
        return self.first if (op, image) in (("c", "after"), ("u", "before")) else self.second


def _select(database: FreshDatabase, sample: Sample, name: str) -> Texts:
    kind = kind_of(sample.kind, sample.fsp)
    rows = database.execute(f"SELECT id, {kind.select.format(v='v')} FROM {name} ORDER BY id")
    return {int(number): None if value is None else kind.expected(_as_text(value)) for number, value in rows}


def _as_text(value: object) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def write_sample(database: FreshDatabase, sample: Sample, name: str) -> Written:
    """INSERT every literal and NULL, UPDATE each to the next, DELETE all."""
    literals = (*sample.literals, "NULL")
    database.execute(
        f"CREATE TABLE {name} (id INT PRIMARY KEY, v {sample.ddl} NULL, n INT NOT NULL, w {sample.ddl} NULL)"
        " CHARACTER SET utf8mb4"
    )
    rows = ",".join(f"({i},{v},0,{literals[(i + 1) % len(literals)]})" for i, v in enumerate(literals))
    database.execute(f"INSERT INTO {name} VALUES {rows}")
    first = _select(database, sample, name)
    database.execute(f"UPDATE {name} SET v = w, n = n + 1")
    second = _select(database, sample, name)
    database.execute(f"DELETE FROM {name}")
    assert len(first) == len(literals)
    return Written(sample, name, first, second)


def _canonical(sample: Sample, value: Any, *, wire: bool) -> str | None:
    if value is None:
        return None
    kind = kind_of(sample.kind, sample.fsp)
    return (kind.wire if wire else kind.delivered)(value)


def compare(tally: Tally, table: Written, changes: Sequence[RowChange], envelopes: Sequence[Mapping[str, Any]]) -> None:
    """All images of one table, as changes and as envelopes."""
    wanted = len(table.first)
    assert [change.op for change in changes] == ["c"] * wanted + ["u"] * wanted + ["d"] * wanted, table.sample
    for change, envelope in zip(changes, envelopes, strict=True):
        for image in ("before", "after"):
            row, wire = getattr(change, image), envelope[image]
            assert (row is None) == (wire is None)
            if row is None:
                continue
            where = f"{table.sample.ddl[:60]} {change.op} {image} row {row['id']}"
            expected = table.expected(change.op, image)[row["id"]]
            tally.check(where, expected, _canonical(table.sample, row["v"], wire=False))
            wired = _canonical(table.sample, wire["v"], wire=True)
            tally.check(f"{where} JSON", _on_the_wire(table.sample, expected), wired)
            if table.sample.kind == "json":
                named = f"{image}.v" in envelope["source"].get("json_null", [])
                tally.check(f"{where} json_null", expected == "null", named)


def _on_the_wire(sample: Sample, expected: str | None) -> str | None:
    if expected is not None and sample.kind == "json":
        return None if expected == "null" else json.dumps(parse_json(expected), sort_keys=True)
    return expected


def envelopes_of(recording: Recording) -> dict[str, list[dict[str, Any]]]:
    """The JSON of every change, by table."""
    found: dict[str, list[dict[str, Any]]] = {}
    for stretch in recording.decoded().stretches:
        for batch in stretch.batches:
            texts = render(batch, EnvelopeContext("tests", 0)).texts()
            found.setdefault(batch.schema.table, []).extend(map(parse_json, texts))
    return found


def parse_json(text: str | bytes) -> Any:
    """Python's parser takes -0 for the integer 0; the wire means the number."""
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


@contextmanager
def session(database: FreshDatabase) -> Iterator[None]:
    """The session's settings for samples."""
    for statement in SETTINGS:
        database.execute(statement)
    yield


def _compare_all(database: FreshDatabase, flavor: str) -> Tally:
    tally = Tally()
    start = end_of_log(database.server)
    with session(database):
        samples = [sample for sample in TYPE_SAMPLES if flavor in sample.servers]
        tables = [write_sample(database, sample, f"s{i}") for i, sample in enumerate(samples)]
    recording = record(database.server, start, lambda name, table: name == database.name)
    changes = changes_by_table(recording)
    envelopes = envelopes_of(recording)
    for table in tables:
        compare(tally, table, changes[table.name], envelopes[table.name])
    return tally


def changes_by_table(recording: Recording) -> dict[str, list[RowChange]]:
    """All changes, in order, by table; raises what the reader raised."""
    done = recording.decoded()
    if done.error is not None:
        raise done.error
    found: dict[str, list[RowChange]] = {}
    for change in changes_of(done.stretches):
        found.setdefault(change.source.table, []).append(change)
    return found


def _report(tally: Tally, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{what}: {tally.compared} values compared with SELECT, {len(tally.differences)} differ")  # noqa: T201
    assert not tally.differences, "\n".join(tally.differences[:40])


def test_every_type_sample_equals_select_on_mysql(mysql: FreshDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    _report(_compare_all(mysql, "mysql"), "type samples on MySQL", capsys)


def test_every_type_sample_equals_select_on_mariadb(mariadb: FreshDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    _report(_compare_all(mariadb, "mariadb"), "type samples on MariaDB", capsys)


# Generated rows: many types in one row, NULLs anywhere, in tables of different widths.

_COLUMNS: tuple[tuple[str, str, int, st.SearchStrategy[str]], ...] = (
    ("BIGINT", "integer", 0, st.integers(-(2**63), 2**63 - 1).map(str)),
    ("BIGINT UNSIGNED", "integer", 0, st.integers(0, 2**64 - 1).map(str)),
    ("MEDIUMINT", "integer", 0, st.integers(-(2**23), 2**23 - 1).map(str)),
    (
        "DOUBLE",
        "double",
        0,
        st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False).map("{:.17e}".format),
    ),
    ("FLOAT", "float", 0, st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False).map("{:.17e}".format)),
    ("DECIMAL(65,30)", "decimal", 0, st.integers(-(10**65) + 1, 10**65 - 1).map(lambda n: _scaled(n, 30))),
    ("DECIMAL(19,4)", "decimal", 0, st.integers(-(10**19) + 1, 10**19 - 1).map(lambda n: _scaled(n, 4))),
    (
        "VARCHAR(300)",
        "text",
        0,
        st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda t: _quoted(t)),
    ),
    ("TEXT CHARACTER SET latin1", "text", 0, st.binary(max_size=40).map(lambda b: f"_latin1 x'{b.hex()}'")),
    ("VARBINARY(300)", "binary", 0, st.binary(max_size=300).map(lambda b: f"x'{b.hex()}'")),
    ("BINARY(7)", "binary", 0, st.binary(max_size=7).map(lambda b: f"x'{b.hex()}'")),
    ("DATE", "date", 0, st.dates().map(lambda d: f"'{d.isoformat()}'")),
    ("DATETIME(6)", "datetime", 6, st.datetimes().map(lambda d: f"'{d.isoformat(' ')}'")),
    ("TIME(6)", "time", 6, st.integers(-3020399 * 10**6, 3020399 * 10**6).map(lambda n: f"'{_clock(n)}'")),
    ("TIME(3)", "time", 3, st.integers(-3020398 * 10**3, 3020398 * 10**3).map(lambda n: f"'{_clock(n * 1000)}'")),
    ("TIMESTAMP(6)", "timestamp", 6, st.integers(1, 2**31 - 2).map(lambda n: f"FROM_UNIXTIME({n}.{n % 1000000:06})")),
    ("BIT(64)", "bit", 0, st.integers(0, 2**64 - 1).map(str)),
    ("ENUM('a','b','\u00e4')", "text", 0, st.integers(1, 3).map(str)),
    ("SET('a','b','c','d','e','f','g','h','i')", "set", 0, st.integers(0, 511).map(str)),
    ("YEAR", "year", 0, st.integers(1901, 2155).map(str)),
)
_DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)
_JSON_COLUMN = ("JSON", "json", 0, _DOCUMENTS.map(lambda value: f"_utf8mb4 x'{json.dumps(value).encode().hex()}'"))


def _scaled(number: int, scale: int) -> str:
    digits = f"{abs(number):0{scale + 1}}"
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def _quoted(value: str) -> str:
    return f"_utf8mb4 x'{value.encode().hex()}'"


def _clock(micros: int) -> str:
    return time_text(timedelta(microseconds=micros), 6)


def _rows(columns: Sequence[tuple[str, str, int, st.SearchStrategy[str]]]) -> st.SearchStrategy[list[list[str]]]:
    row = st.tuples(*(st.just("NULL") | strategy for *_, strategy in columns)).map(list)
    return st.lists(row, min_size=30, max_size=30)


def _compare_rows(database: FreshDatabase, tally: Tally, columns: Sequence[Any], rows: list[list[str]]) -> None:
    """One table with these columns and rows; INSERT, UPDATE to the row behind, DELETE; compared with SELECT."""
    name = f"g{secrets.token_hex(5)}"
    declared = ", ".join(f"c{k} {ddl} NULL" for k, (ddl, *_) in enumerate(columns))
    kinds = [kind_of(kind, fsp) for _, kind, fsp, _ in columns]
    selected = ", ".join(kind.select.format(v=f"c{k}") for k, kind in enumerate(kinds))
    start = end_of_log(database.server)
    with session(database):
        database.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, {declared}) CHARACTER SET utf8mb4")
        expected: dict[str, list[tuple[Any, ...]]] = {}
        for op, ordered in (("c", rows), ("u", rows[1:] + rows[:1])):
            values = ",".join(f"({i},{','.join(row)})" for i, row in enumerate(ordered))
            if op == "c":
                database.execute(f"INSERT INTO {name} VALUES {values}")
            else:
                assigned = ", ".join(f"c{k} = VALUES(c{k})" for k in range(len(columns)))
                database.execute(f"INSERT INTO {name} VALUES {values} ON DUPLICATE KEY UPDATE {assigned}")
            expected[op] = database.execute(f"SELECT id, {selected} FROM {name} ORDER BY id")
        database.execute(f"DELETE FROM {name}")
    recording = record(database.server, start, lambda schema, table: table == name)
    wanted = {
        (op, image): {int(row[0]): row[1:] for row in expected[source]}
        for (op, image), source in {
            ("c", "after"): "c",
            ("u", "before"): "c",
            ("u", "after"): "u",
            ("d", "before"): "u",
        }.items()
    }
    seen = 0
    for change in recording.changes():
        for image in ("before", "after"):
            values = getattr(change, image)
            if values is None:
                continue
            seen += change.op == "c"
            for k, (text, kind) in enumerate(zip(wanted[change.op, image][values["id"]], kinds, strict=True)):
                value = values[f"c{k}"]
                got = None if value is None else kind.delivered(value)
                tally.check(
                    f"{columns[k][0]} {change.op} {image}", None if text is None else kind.expected(_as_text(text)), got
                )
    assert seen == len(rows)


def _generated(database: FreshDatabase, columns: Sequence[Any], examples: int) -> Tally:
    tally = Tally()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(_rows(columns))
    def run(rows: list[list[str]]) -> None:
        _compare_rows(database, tally, columns, rows)
        assert not tally.differences, "\n".join(tally.differences[:20])

    run()
    return tally


def test_generated_rows_equal_select_on_mysql(mysql: FreshDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    _report(_generated(mysql, (*_COLUMNS, _JSON_COLUMN), 15), "generated rows on MySQL", capsys)


def test_generated_rows_equal_select_on_mariadb(mariadb: FreshDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    _report(_generated(mariadb, _COLUMNS, 15), "generated rows on MariaDB", capsys)


@pytest.mark.parametrize("width", [1, 8, 9, 65, 300])
def test_tables_of_any_width(mysql: FreshDatabase, width: int) -> None:
    columns = [
        ("VARCHAR(9)", "text", 0, st.sampled_from(["'a'", "''", "'\u00e4\u20ac'"])),
        ("SMALLINT", "integer", 0, st.sampled_from(["-1", "0", "32767"])),
        ("DECIMAL(5,2)", "decimal", 0, st.sampled_from(["-1.25", "999.99"])),
        ("DATE", "date", 0, st.sampled_from(["'2024-02-29'", "'0000-00-00'"])),
    ]
    chosen = [columns[k % len(columns)] for k in range(width)]
    chance = random.Random(width)
    literals = (["NULL", "'a'", "''"], ["NULL", "-1", "32767"], ["NULL", "-1.25"], ["NULL", "'0000-00-00'"])
    rows = [[chance.choice(literals[k % len(columns)]) for k in range(width)] for _ in range(20)]
    tally = Tally()
    _compare_rows(mysql, tally, chosen, rows)
    assert tally.compared >= 20 * 2 * width  # a row that stays as it is has no update
    assert not tally.differences, tally.differences[:20]


def test_keys_hidden_and_generated_columns_are_in_the_schema(mysql: FreshDatabase) -> None:
    start = end_of_log(mysql.server)
    mysql.execute(
        "CREATE TABLE k (a INT, b VARCHAR(300), c INT INVISIBLE, g INT AS (a + 1), s INT AS (a + 2) STORED,"
        " j JSON, PRIMARY KEY (s, b(10)), INDEX ((a + 3)), INDEX ((CAST(j->'$.x' AS UNSIGNED ARRAY))))"
    )
    mysql.execute("INSERT INTO k (a, b, c, j) VALUES (1, 'x', 5, '{\"x\": [1, 2]}')")
    [stretch] = [s for s in record(mysql.server, start, lambda d, t: d == mysql.name).decoded().stretches if s.batches]
    schema = stretch.batches[0].schema
    assert schema.primary_key == ("s", "b")
    assert [(column.name, column.visible) for column in schema.columns] == [
        ("a", True), ("b", True), ("c", False), ("g", True), ("s", True), ("j", True),
    ]  # fmt: skip
    [change] = stretch.batches[0].changes()
    assert change.after == {"a": 1, "b": "x", "c": 5, "g": 2, "s": 3, "j": '{"x": [1, 2]}'}
