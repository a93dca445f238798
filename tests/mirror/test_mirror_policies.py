"""What a mirror does after DROP, with a key of its own, and with frozen columns, by the statements of the stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror import apply as mirror
from binlogsync.mirror.contract import FrozenColumnsError, accept_columns, check_contract, identify_columns
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.duckdb.transaction import DuckTransaction
from binlogsync.targets.mirror_options import MirrorOptions, MirrorPolicies
from binlogsync.targets.mirror_state import MirrorState
from tests.duck import make_batch, query
from tests.mirror.test_mirror_ddl import ROW, SCHEMA, THINGS, ddl

FREEZE = MirrorOptions(schema_contract="freeze")
DROP, GONE = ddl("DROP TABLE things", "drop"), "things__dropped_5"
LOOSE = replace(SCHEMA, primary_key=())


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DuckFile]:
    file = DuckFile(tmp_path / "mirror.duckdb", error=ConsumeError)
    yield file
    file.release()


def apply(
    file: DuckFile, options: MirrorOptions, *batches: ChangeBatch, can_read: bool = False
) -> mirror.RebuildReason | None:
    with file.transaction() as connection:
        return mirror.apply(DuckTransaction(connection), batches, options, can_read=can_read)


def refuse(file: DuckFile, options: MirrorOptions, *batches: ChangeBatch) -> FrozenColumnsError:
    """The error with which the batches are refused; nothing of the call is stored."""
    with pytest.raises(FrozenColumnsError) as refused:
        apply(file, options, *batches)
    return refused.value


def inserts(*numbers: int, schema: TableSchema = SCHEMA, first: int = 0) -> ChangeBatch:
    return make_batch(schema, [("c", None, {**ROW, "id": number}) for number in numbers], first)


def tables(file: DuckFile) -> dict[str, list[Any]]:
    """The ids in each table of the schema shop."""
    names = query(file.path, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'shop' ORDER BY 1")
    return {name: [n for (n,) in query(file.path, f'SELECT id FROM shop."{name}" ORDER BY 1')] for (name,) in names}


def state(file: DuckFile) -> MirrorState:
    with file.transaction() as connection:
        return state_in(connection)


def state_in(connection: duckdb.DuckDBPyConnection) -> MirrorState:
    return DuckTransaction(connection).load_mirror(*THINGS)


def columns(file: DuckFile) -> list[str]:
    rows = query(
        file.path, "SELECT column_name FROM duckdb_columns() WHERE table_name = 'things' ORDER BY column_index"
    )
    return [name for (name,) in rows]


def create(*names: str, pos: int = 6000) -> ChangeBatch:
    clauses = ", ".join(f"{name} INT" for name in names)
    return ddl(f"CREATE TABLE things ({clauses}, PRIMARY KEY (id))", "create", pos=pos)


@pytest.mark.parametrize("gone", ["drop", "rename"])
@pytest.mark.parametrize(
    ("on_drop", "after_drop", "after_create"),
    [
        ("drop", {}, {"things": []}),
        ("keep", {"things": [1, 2]}, {"things": [], GONE: [1, 2]}),
        ("archive", {GONE: [1, 2]}, {"things": [], GONE: [1, 2]}),
    ],
)
def test_a_table_that_the_source_drops(
    file: DuckFile, on_drop: Any, after_drop: dict[str, Any], after_create: dict[str, Any], gone: str
) -> None:
    options = MirrorOptions(on_drop=on_drop)
    elsewhere = ddl("RENAME TABLE things TO others", "rename", (THINGS, ("shop", "others")))
    assert apply(file, options, inserts(1, 2), DROP if gone == "drop" else elsewhere) is None
    assert tables(file) == after_drop
    assert state(file).schema is None
    assert apply(file, options, create("id", "x")) is None
    assert tables(file) == after_create
    assert columns(file) == ["id", "x"]


@pytest.mark.parametrize("on_drop", ["drop", "keep", "archive"])
def test_rows_of_a_table_created_otherwise_begin_another_table(file: DuckFile, on_drop: Any) -> None:
    """CREATE TABLE ... LIKE does not list the columns: the table is created with the first row."""
    options = MirrorOptions(on_drop=on_drop)
    like = ddl("CREATE TABLE things LIKE others", "create", pos=6000)
    assert apply(file, options, inserts(1), DROP, like, inserts(7, first=60)) is None
    assert tables(file) == ({"things": [7]} if on_drop == "drop" else {"things": [7], GONE: [1]})
    replaced = ddl("CREATE OR REPLACE TABLE things (id INT PRIMARY KEY)", "create", pos=9000)
    assert apply(file, options, replaced) is None
    assert len(tables(file)) == (1 if on_drop == "drop" else 3)


@pytest.mark.parametrize("on_drop", ["drop", "keep", "archive"])
def test_deleted_rows_and_versions_stay_after_a_drop(file: DuckFile, on_drop: Any) -> None:
    options = MirrorOptions("gone_at", history=True, on_drop=on_drop)
    assert apply(file, options, inserts(1, 2), DROP) is None
    kept = "things" if on_drop == "keep" else GONE
    assert query(file.path, f"SELECT id, epoch_us(gone_at) FROM shop.{kept} ORDER BY id") == [(1, 5), (2, 5)]
    versions = "SELECT id, valid_to IS NULL FROM shop.things__history ORDER BY ALL"
    assert query(file.path, versions) == [(1, False), (2, False)]
    # The history continues in the same table.
    created = ddl("CREATE TABLE things (id INT PRIMARY KEY, a VARCHAR(5), b DECIMAL(5,2), t DATETIME(3))", "create")
    assert apply(file, options, created, inserts(3, first=90)) is None
    assert query(file.path, versions) == [(1, False), (2, False), (3, True)]
    assert query(file.path, "SELECT id, gone_at FROM shop.things") == [(3, None)]
    assert query(file.path, f"SELECT count(*) FROM shop.{GONE}") == [(2,)]


def test_a_truncate_is_not_a_drop(file: DuckFile) -> None:
    options = MirrorOptions(on_drop="archive")
    assert apply(file, options, inserts(1), make_batch(SCHEMA, [("t", None, None)], 10)) is None
    assert tables(file) == {"things": []}


@pytest.mark.parametrize(
    "clauses",
    [
        "ADD c INT", "DROP COLUMN b", "MODIFY id BIGINT NOT NULL", "RENAME COLUMN a TO z", "MODIFY a VARCHAR(5) FIRST",
    ],
)  # fmt: skip
def test_frozen_columns_stop_before_a_statement_until_it_is_accepted(file: DuckFile, clauses: str) -> None:
    statement, before = ddl(f"ALTER TABLE things {clauses}"), ["id", "a", "b", "t"]
    assert apply(file, FREEZE, inserts(1)) is None
    error = refuse(file, FREEZE, inserts(2, first=5), statement, inserts(3, first=90))
    assert (error.done, columns(file), tables(file)) == (1, before, {"things": [1]})
    message = str(error)
    assert f"the statement at binlog.000001:5000 (ALTER TABLE things {clauses})" in message
    accepted = message.partition("binlogsync accept shop.things ")[2].partition(" ")[0]
    again = refuse(file, FREEZE, statement)
    assert (again.done, str(again)) == (0, message)
    accept_columns(DuckStore(file.path), THINGS, "0123456789ab")
    refuse(file, FREEZE, statement)  # another id
    accept_columns(DuckStore(file.path), THINGS, accepted)
    assert apply(file, FREEZE, statement) is None
    assert state(file).schema not in (None, SCHEMA)
    assert state(file).policies.accepted == ()
    assert state(file).policies.frozen_schema == state(file).schema
    refuse(file, FREEZE, ddl("ALTER TABLE things ADD later INT", pos=9000))


def test_a_statement_that_needs_a_load_stays_accepted_while_the_columns_of_a_later_one_are(file: DuckFile) -> None:
    narrow = ddl("ALTER TABLE things MODIFY a VARCHAR(5) CHARACTER SET latin1, ADD c INT DEFAULT (id + 1)")
    assert apply(file, FREEZE, inserts(1)) is None
    error = refuse(file, FREEZE, narrow)
    later = replace(SCHEMA, columns=(*SCHEMA.columns, Column("c", "int"), Column("d", "int")))
    for columns_id in (error.columns_id, identify_columns(later)):
        accept_columns(DuckStore(file.path), THINGS, columns_id)
        needed = apply(file, FREEZE, narrow)
        assert needed is not None
        assert needed.is_required
    with file.transaction() as connection:  # as the load does
        moved = check_contract(DuckTransaction(connection), state_in(connection), later, "the load")
    assert (moved.policies.frozen_schema, moved.policies.accepted) == (later, ())


@pytest.mark.parametrize(
    "clauses",
    [
        "ADD INDEX i (a)", "COMMENT = 'x'", "MODIFY a VARCHAR(50)", "DROP PRIMARY KEY, ADD PRIMARY KEY (id, a)",
        "ALTER COLUMN a SET DEFAULT 'q'", "ENGINE=InnoDB",
    ],
)  # fmt: skip
def test_frozen_columns_allow_what_leaves_them_as_they_are(file: DuckFile, clauses: str) -> None:
    assert apply(file, FREEZE, inserts(1), ddl(f"ALTER TABLE things {clauses}")) is None
    assert columns(file) == ["id", "a", "b", "t"]


def test_columns_stay_frozen_over_a_drop(file: DuckFile) -> None:
    assert apply(file, replace(FREEZE, on_drop="keep"), inserts(1), DROP) is None
    refuse(file, replace(FREEZE, on_drop="keep"), create("id", "x"))
    assert tables(file) == {"things": [1]}
    same = ddl("CREATE TABLE things (id INT PRIMARY KEY, a VARCHAR(5), b DECIMAL(5,2), t DATETIME(3))", "create")
    assert apply(file, replace(FREEZE, on_drop="keep"), same) is None
    assert tables(file) == {"things": [], GONE: [1]}


def test_rows_with_other_columns_stop_a_mirror_with_frozen_ones(file: DuckFile) -> None:
    wider = replace(SCHEMA, columns=(*SCHEMA.columns, Column("c", "int")))
    assert apply(file, FREEZE, inserts(1)) is None
    error = refuse(file, FREEZE, make_batch(wider, [("c", None, {**ROW, "id": 2, "c": 1})], 9))
    assert "a row change at binlog.000001:1900" in str(error)
    assert identify_columns(wider) in str(error)


def test_follow_ends_the_freeze(file: DuckFile) -> None:
    assert apply(file, FREEZE, inserts(1)) is None
    statement = ddl("ALTER TABLE things ADD c INT")
    assert apply(file, MirrorOptions(), statement) is None
    assert state(file).policies.contract is None
    with pytest.raises(ConfigError, match="no mirror of it with frozen columns"):
        accept_columns(DuckStore(file.path), THINGS, "0123456789ab")
    refuse(file, FREEZE, ddl("ALTER TABLE things DROP c", pos=9000))


def test_the_key_follows_ddl(file: DuckFile) -> None:
    keyed = MirrorOptions(key=("id",))
    assert apply(file, keyed, inserts(1, schema=LOOSE), ddl("ALTER TABLE things ADD c INT FIRST")) is None
    assert state(file).schema is not None
    wider = replace(LOOSE, columns=(Column("c", "int"), *SCHEMA.columns))
    moved = make_batch(wider, [("u", {**ROW, "c": None}, {**ROW, "c": 4})], 90)
    assert apply(file, keyed, moved) is None
    assert query(file.path, "SELECT c, id FROM shop.things") == [(4, 1)]
    with pytest.raises(ConsumeError, match="has no column id, which the `key` of its mirror names"):
        apply(file, keyed, ddl("ALTER TABLE things RENAME COLUMN id TO nr", pos=9900))
    reason = apply(file, MirrorOptions(key=("nr",)), ddl("ALTER TABLE things RENAME COLUMN id TO nr", pos=9900))
    assert reason is not None
    assert reason.reason == "the `key` of its options changed"
    assert reason.is_required


@pytest.mark.parametrize("kind", ["json", "vector", "point"])
def test_a_key_of_a_type_that_cannot_be_compared_is_refused(file: DuckFile, kind: str) -> None:
    schema = replace(LOOSE, columns=(*SCHEMA.columns, Column("j", kind)))
    with pytest.raises(ConsumeError, match=f"column j \\({kind}\\) cannot be in the `key`"):
        apply(file, MirrorOptions(key=("j",)), make_batch(schema, [("c", None, {**ROW, "j": None})]))


def test_options_are_checked() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"on_drop": "ignore"}, "on_drop='ignore' is unknown"),
        ({"schema_contract": "evolve"}, "schema_contract='evolve' is unknown; write one of follow, freeze"),
        ({"metadata": "_seq"}, "metadata column '_seq' is unknown"),
        ({"metadata": ["_op"], "deleted_at": "_OP"}, "is also a metadata column"),
        ({"key": ["a", "A"]}, "a column twice"),
        (
            {"target_table": "{tabel}"},
            r"unknown placeholder \{tabel\}; known ones: \{source\}, \{database\}, \{table\}",
        ),
        ({"target_table": "{table!r}"}, r"unknown placeholder \{table!r\}"),
        ({"target_schema": "raw_{"}, "is not a pattern"),
        ({"target_schema": ""}, "target_schema is empty"),
    ]
    for keywords, message in wrong:
        with pytest.raises(ConfigError, match=message):
            MirrorOptions.of(**keywords)
    assert MirrorOptions.of(key="id", metadata="_op") == MirrorOptions(key=("id",), metadata=("_op",))
    named = MirrorOptions(target_schema="{{raw}}", target_table="{source}.{table}").for_table("eu", "shop", "a{b")
    assert named.location == ("{raw}", "eu.a{b")
    with pytest.raises(ConfigError, match="no column b"):
        MirrorOptions(key=("A", "b")).check_columns("shop.t", ["a"])
    with pytest.raises(ConfigError, match="already has a column _op"):
        MirrorOptions(metadata=("_op",)).check_columns("shop.t", ["_OP"])


def test_policies_are_stored_as_text() -> None:
    policies = MirrorPolicies("keep", ("a", "b"), ("_op",), True, 7, SCHEMA.to_json(), ("0123", "4567"), None)
    assert MirrorPolicies.from_json(policies.to_json()) == policies
    assert policies.frozen_schema == SCHEMA
    assert MirrorPolicies().to_json() is None
    assert MirrorPolicies.from_json(None) == MirrorPolicies()
    assert MirrorPolicies.from_json('{"accepted":"0123"}').accepted == ("0123",)  # of an earlier version
