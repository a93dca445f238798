"""Mirrors of tables and columns whose names DuckDB, this program or another mirror uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror import apply as mirror
from binlogsync.replay.to_tables import TableTarget
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile, quote
from binlogsync.targets.duckdb.history import history_column
from binlogsync.targets.duckdb.names import locate, spare_name
from binlogsync.targets.duckdb.state import ensure_meta, load_state
from binlogsync.targets.duckdb.transaction import DuckTransaction
from binlogsync.targets.mirror_state import MirrorOptions
from tests.duck import Change, make_batch, query
from tests.mirror.test_mirror_ddl import ddl

pytestmark = pytest.mark.slow

HISTORY, SOFT = MirrorOptions(history=True), MirrorOptions(deleted_at="deleted_at")
DUCKDB_NAMES = ["rowid", "RowID", "tableoid", "filename", "file_row_number", "file_index", "oid", "current_date", "*"]
HELPER_NAMES = ["valid_from", "Valid_To", "_valid_from", "from_row", "ts_us", "step", "ref", "kind", "n", "k0", "c0"]
HELPER_NAMES += ["i0", "h", "t", "s", "o", "e", "delta", "gone", "last", "id", "nth", "numbered", "ends", "file", "pos"]

# Each table has several of the names as columns, and none twice: MySQL ignores the case of column names.
NAME_GROUPS = [[*DUCKDB_NAMES, *HELPER_NAMES][start::7] for start in range(7)]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DuckFile]:
    file = DuckFile(tmp_path / "warehouse.duckdb", error=ConsumeError)
    yield file
    file.release()


def apply(file: DuckFile, options: MirrorOptions, *batches: ChangeBatch) -> None:
    with file.transaction() as connection:
        assert mirror.apply(DuckTransaction(connection), batches, options) is None


def rows_of(file: DuckFile, database: str, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Rows of the mirror of that table."""
    with file.transaction() as connection:
        (catalog,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        path = quote(catalog, *locate(connection, database, table))
        return connection.execute(f"SELECT {columns} FROM {path} ORDER BY ALL").fetchall()


def schema_of(names: list[str], key: tuple[str, ...] = (), table: str = "things") -> TableSchema:
    return TableSchema("shop", table, tuple(Column(name, "int") for name in names), key)


@pytest.mark.slow
@pytest.mark.parametrize("has_key", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize("options", [MirrorOptions(), SOFT, HISTORY], ids=["plain", "soft", "history"])
def test_a_column_may_have_any_name(options: MirrorOptions, has_key: bool) -> None:
    with duckdb.connect() as connection:
        for number, names in enumerate(NAME_GROUPS):
            schema = schema_of([*names, "v"], tuple(names) if has_key else (), f"t{number}")
            one, two, three, four = ({**dict.fromkeys(names, 3 - n), "v": n} for n in range(4))
            changes: list[Change] = [("c", None, one), ("c", None, two), ("c", None, three)]
            mirror.apply(DuckTransaction(connection), [make_batch(schema, changes)], options)
            mirror.apply(
                DuckTransaction(connection), [make_batch(schema, [("d", three, None), ("u", two, four)], 3)], options
            )
            alive = " WHERE deleted_at IS NULL" if options == SOFT else ""
            columns = f"SELECT {', '.join(map(quote, names))}, v FROM shop.{schema.table}"
            width = len(names)
            assert connection.execute(f"{columns}{alive} ORDER BY v").fetchall() == [
                (*[3] * width, 0),
                (*[0] * width, 3),
            ]
            if options == HISTORY:
                kept = ", ".join(quote(history_column(name)) for name in names)
                found = connection.execute(f"SELECT {kept}, v FROM shop.{schema.table}__history ORDER BY v").fetchall()
                assert found == [(*[3 - n] * width, n) for n in range(4)]


def test_names_with_leading_underscores_stay_unique_in_the_history(file: DuckFile) -> None:
    schema = schema_of(["valid_from", "_valid_from", "__valid_from"], ("valid_from",))
    apply(file, HISTORY, make_batch(schema, [("c", None, {"valid_from": 1, "_valid_from": 2, "__valid_from": 3})]))
    [found] = query(file.path, "SELECT _valid_from, __valid_from, ___valid_from FROM shop.things__history")
    assert found == (1, 2, 3)


def test_a_new_column_may_have_the_name_of_a_column_kept_for_earlier_versions(file: DuckFile) -> None:
    first, second = schema_of(["id", "a"], ("id",)), schema_of(["id", "a", "a__1"], ("id",))
    second = replace(second, columns=(first.columns[0], Column("a", "double"), second.columns[2]))
    apply(file, HISTORY, make_batch(first, [("c", None, {"id": 1, "a": 7})]))
    tables = (("shop", "things"),)
    alter = ddl("ALTER TABLE shop.things MODIFY a DOUBLE, ADD a__1 INT NULL", tables=tables)
    apply(file, HISTORY, alter, make_batch(second, [("c", None, {"id": 2, "a": 0.5, "a__1": 8})], 100))
    current = query(file.path, "SELECT id, a__1 FROM shop.things__history WHERE valid_to IS NULL ORDER BY id")
    assert current == [(1, None), (2, 8)]
    assert query(file.path, "SELECT a__1__1 FROM shop.things__history WHERE valid_to IS NOT NULL") == [(7,)]


SCHEMAS = ["main", "temp", "system", "information_schema", "pg_catalog", "binlogsync", META_SCHEMA[:64]]
SCHEMAS += ["größe", "a.b", 'q"q', "%", "..", "MAIN"]


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["warehouse", "binlogsync", "temp"])
def test_a_database_may_have_any_name_in_a_file_of_any_name(tmp_path: Path, stem: str) -> None:
    file, schemas = DuckFile(tmp_path / f"{stem}.duckdb", error=ConsumeError), dict.fromkeys([stem, *SCHEMAS])
    if stem != "warehouse":
        schemas = dict.fromkeys([stem, *SCHEMAS[:3]])
    with file.transaction() as connection:
        for database, key in product(schemas, [("id",), ()]):
            table = "binlogsync_net" if key else "binlogsync_changes"
            schema = replace(schema_of(["id", "v"], key, table), database=database)
            altered = replace(schema, columns=(*schema.columns, Column("w", "int")))
            change = ddl(f"ALTER TABLE {table} ADD w INT NULL", tables=((database, table),))
            batches = [
                make_batch(schema, [("c", None, {"id": n, "v": n}) for n in range(3)]),
                make_batch(schema, [("d", {"id": 1, "v": 1}, None)], 10),
                replace(change, schema=replace(change.schema, database=database, table=table)),
                make_batch(altered, [("c", None, {"id": 4, "v": 4, "w": 4})], 200),
            ]
            assert mirror.apply(DuckTransaction(connection), batches, HISTORY) is None
    for database, table in product(schemas, ["binlogsync_net", "binlogsync_changes"]):
        assert rows_of(file, database, table) == [(0, 0, None), (2, 2, None), (4, 4, 4)], database
    file.release()


def test_tables_whose_names_differ_only_in_case_can_share_a_file(file: DuckFile) -> None:
    names = [("shop", "things"), ("shop", "Things"), ("SHOP", "THINGS"), ("shop", "Things__2"), ("shop", "thíngs")]
    names += [("shop", "THÍNGS")]
    for number, (database, table) in enumerate(names):
        schema = replace(schema_of(["id"], ("id",), table), database=database)
        apply(file, HISTORY, make_batch(schema, [("c", None, {"id": number})]))
    for number, (database, table) in enumerate(names):
        assert rows_of(file, database, table) == [(number,)]
    assert query(file.path, "FROM shop.things") == [(0,)], "the first mirror has the name of its table"
    assert query(file.path, 'FROM shop."THÍNGS"') == [(5,)], "DuckDB distinguishes the case of non-ASCII letters"
    drop = ddl("DROP TABLE things", "drop")
    apply(file, HISTORY, drop)
    assert rows_of(file, "shop", "Things") == [(1,)]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_history_and_a_table_with_its_name_are_separate(file: DuckFile, is_first: bool) -> None:
    both = [(schema_of(["id"], ("id",)), HISTORY), (schema_of(["id"], ("id",), "things__history"), MirrorOptions())]
    for schema, options in both if is_first else reversed(both):
        apply(file, options, make_batch(schema, [("c", None, {"id": 1}), ("c", None, {"id": 2})]))
    for schema, options in both:
        apply(file, options, make_batch(schema, [("d", {"id": 2}, None)], 9))
    assert rows_of(file, "shop", "things") == rows_of(file, "shop", "things__history") == [(1,)]
    with file.transaction() as connection:
        history = load_state(connection, "shop", "things").history_table
    assert history == ("things__history" if is_first else "things__history__2")
    assert query(file.path, f"SELECT count(*), count(valid_to) FROM shop.{history}") == [(2, 1)]


def test_tables_with_names_of_earlier_helper_tables_are_not_changed(file: DuckFile) -> None:
    for table in ("things", "things__reading", "things__rebuilt", f"things__dropped_{5}"):
        apply(file, SOFT, make_batch(schema_of(["id"], ("id",), table), [("c", None, {"id": 1})]))
    alter = ddl("ALTER TABLE things ADD COLUMN b INT NULL FIRST")
    apply(file, SOFT, alter, ddl("DROP TABLE things", "drop", pos=6000))
    for table in ("things__reading", "things__rebuilt", f"things__dropped_{5}"):
        assert rows_of(file, "shop", table, "id") == [(1,)], table
    assert query(file.path, "SELECT id FROM shop.things__dropped_5__2") == [(1,)], "the deleted rows"


def test_helper_names_are_longer_than_names_of_mysql() -> None:
    assert len(META_SCHEMA) > 64
    assert len(spare_name("x", "y")) > 64


def test_a_replay_is_separate_from_a_database_with_its_name(file: DuckFile) -> None:
    live = replace(schema_of(["id"], ("id",)), database="replay_shop")
    apply(file, MirrorOptions(), make_batch(live, [("c", None, {"id": 7})]))
    target = TableTarget(file.path, "shop", "things")
    with file.transaction() as connection:
        ensure_meta(connection)
        assert load_state(connection, target.database, "things").location[1:] == ("replay_shop", "things__2")
    assert rows_of(file, "replay_shop", "things") == [(7,)]


@pytest.mark.parametrize("name", ["rowid", "ROWID", ""])
def test_a_reserved_name_for_deleted_at_is_rejected(name: str) -> None:
    with pytest.raises(ConfigError, match="choose another name"):
        MirrorOptions(deleted_at=name)


OLD = Path(__file__).with_name("old_warehouse.sql")


def test_a_file_of_the_previous_version_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(OLD.read_text())
    file = DuckFile(path, error=ConsumeError)
    schema = schema_of(["id", "a"], ("id",))
    for number in (2, 3):  # the second opening finds it done
        apply(file, HISTORY, make_batch(schema, [("c", None, {"id": number, "a": number})], number))
    assert query(path, "FROM shop.things ORDER BY id") == [(1, 1), (2, 2), (3, 3)]
    assert query(path, "SELECT count(*) FROM shop.things__history") == [(3,)]
    assert query(path, f"SELECT client, sequence, epoch FROM {META_SCHEMA}.progress") == [("dagster", 7, 1)]
    assert query(path, f"SELECT number FROM {META_SCHEMA}.backfills") == [("b1",)]
    kept = query(path, f"SELECT database, table_name FROM {META_SCHEMA}.mirrors ORDER BY ALL")
    assert kept == [("binlogsync", "orders"), ("replay_live", "things"), ("replay_shop ", "things"), ("shop", "things")]
    left = query(path, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'binlogsync'")
    assert left == [("orders",)], "a mirror of a database with that name stays"
    file.release()
