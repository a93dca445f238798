"""The policies of mirrors with real servers: drops, keys, names and metadata columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import ConsumeError
from binlogsync.mirror.repair import Repairer
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.mysql import inspect_server
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.removal import remove_table
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_options import MirrorOptions
from tests.duck import query
from tests.e2e.loads import OPTIONS, Loads
from tests.e2e.mirror_policies import drain, move_back, query_server, rows, tables, verify
from tests.e2e.mirror_policies import on_mysql as on_mysql
from tests.e2e.mirror_policies import scenario as scenario

pytestmark = [pytest.mark.server, pytest.mark.slow]
KEYED = MirrorOptions(key=("account", "day"))
COUNTS = "CREATE TABLE counts (account VARCHAR(20), day DATE, n INT)"


# tests/mirror/test_mirror_policies.py has the other values without a server. A table that is kept is archived later.
@pytest.mark.parametrize(
    "on_drop",
    [pytest.param("drop", marks=pytest.mark.exhaustive), "keep", pytest.param("archive", marks=pytest.mark.exhaustive)],
)
def test_a_table_that_is_dropped_and_created_again(scenario: Loads, on_drop: Any) -> None:
    execute, options = scenario.database.execute, MirrorOptions(on_drop=on_drop)
    for table in ("t", "renamed", "swapped"):
        execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, a VARCHAR(9))")
        execute(f"INSERT INTO {table} VALUES (1, 'old'), (2, 'old')")
        drain(scenario, table, options)
    execute("DROP TABLE t")
    execute("RENAME TABLE renamed TO away")
    execute("CREATE TABLE ghost (id INT PRIMARY KEY, a VARCHAR(9), b INT)")
    execute("INSERT INTO ghost VALUES (1, 'new', 1)")
    execute("RENAME TABLE swapped TO swapped_old, ghost TO swapped")
    for table in ("t", "renamed", "swapped"):
        drain(scenario, table, options)
        assert verify(scenario, table).is_equal, table
    assert rows(scenario, "swapped") == [(1, "new", 1)]
    there = {"drop": [], "keep": ["renamed", "t"], "archive": ["renamed__dropped", "t__dropped"]}[on_drop]
    assert tables(scenario) == sorted(["swapped", *there])
    if on_drop == "keep":
        assert rows(scenario, "t") == [(1, "old"), (2, "old")]
        assert "the mirror keeps its rows" in str(verify(scenario, "t"))

    execute("CREATE TABLE t (name VARCHAR(20) PRIMARY KEY, id DOUBLE)")
    execute("INSERT INTO t VALUES ('again', 1.5)")
    execute("CREATE TABLE renamed LIKE swapped")
    execute("INSERT INTO renamed VALUES (3, 'again', 3)")
    for table in ("t", "renamed"):
        drain(scenario, table, options)
        assert verify(scenario, table).is_equal, table
    assert rows(scenario, "t") == [("again", 1.5)]
    archived = [] if on_drop == "drop" else ["renamed__dropped", "t__dropped"]
    assert tables(scenario) == sorted(["swapped", "renamed", "t", *archived])


def test_a_table_without_a_key_is_mirrored_by_the_key_of_its_options(scenario: Loads) -> None:
    execute = scenario.database.execute
    execute(COUNTS)
    execute("INSERT INTO counts VALUES ('a', '2026-01-01', 1), ('a', '2026-01-02', 1), ('A', '2026-01-01', 1)")
    drain(scenario, "counts", KEYED)
    execute("UPDATE counts SET n = n + 1 WHERE day = '2026-01-01'")
    execute("DELETE FROM counts WHERE day = '2026-01-02'")
    execute("ALTER TABLE counts ADD note VARCHAR(20) DEFAULT 'x'")
    execute("INSERT INTO counts VALUES ('a', '2026-01-02', 9, NULL), ('b', '2026-01-02', 1, 'y')")
    drain(scenario, "counts", KEYED)
    found = verify(scenario, "counts")
    assert found.is_equal
    assert found.rows is not None
    assert found.rows.schema is not None
    assert found.rows.schema.primary_key == KEYED.key
    before = rows(scenario, "counts")
    move_back(scenario, "counts", "head", rebuild=True)
    drain(scenario, "counts", KEYED)
    assert rows(scenario, "counts") == before
    assert verify(scenario, "counts").is_equal


def test_a_mirror_with_a_key_is_moved_back(on_mysql: Loads) -> None:
    scenario, execute = on_mysql, on_mysql.database.execute
    execute(COUNTS)
    drain(scenario, "counts", KEYED)
    at = str(inspect_server(scenario.config).end())
    execute("INSERT INTO counts VALUES ('a', '2026-01-01', 1)")
    execute("INSERT INTO counts VALUES ('b', '2026-01-01', 1)")
    drain(scenario, "counts", KEYED)
    move_back(scenario, "counts", at)
    drain(scenario, "counts", KEYED)  # the inserts are in the mirror already
    assert verify(scenario, "counts").is_equal
    execute("INSERT INTO counts VALUES ('a', '2026-01-01', 7)")
    with pytest.raises(ConsumeError, match=r"account = a, day = 2026-01-01"):
        drain(scenario, "counts", KEYED)


def test_a_key_with_equal_values_blocks_the_table_until_rows_or_key_are_corrected(scenario: Loads) -> None:
    execute = scenario.database.execute
    execute(COUNTS)
    drain(scenario, "counts", KEYED)
    execute("INSERT INTO counts VALUES ('a', '2026-01-01', 1), ('a', '2026-01-01', 2), ('b', '2026-01-01', 3)")
    with pytest.raises(ConsumeError, match=r"account = a, day = 2026-01-01 is that of two rows; choose columns"):
        drain(scenario, "counts", KEYED)
    execute("DELETE FROM counts WHERE n = 2")
    move_back(scenario, "counts", "head", rebuild=True)
    drain(scenario, "counts", KEYED)
    assert verify(scenario, "counts").is_equal
    execute("INSERT INTO counts VALUES ('c', '2026-01-01', 3)")
    drain(scenario, "counts", replace(KEYED, key=("account",)))  # loaded again by another key
    assert verify(scenario, "counts").is_equal
    execute("INSERT INTO counts VALUES (NULL, '2026-01-01', 3)")
    with pytest.raises(ConsumeError, match="account = NULL"):
        drain(scenario, "counts", replace(KEYED, key=("account",)))
    execute("DELETE FROM counts WHERE account IS NULL")
    drain(scenario, "counts", MirrorOptions())
    assert verify(scenario, "counts").is_equal
    execute("INSERT INTO counts SELECT * FROM counts")
    drain(scenario, "counts", MirrorOptions())
    assert verify(scenario, "counts").is_equal


def test_a_key_without_a_date_of_the_primary_key(on_mysql: Loads) -> None:
    """An invalid date is NULL outside of the key, whether a load, a change or a repair stores it."""
    scenario, execute, options = on_mysql, on_mysql.database.execute, MirrorOptions(key=("id",))
    execute("SET SESSION sql_mode = ''")
    execute("CREATE TABLE t (id INT, day DATE, at DATETIME(3), n INT, PRIMARY KEY (day, at, id))")
    execute("INSERT INTO t VALUES (1, 0, 0, 1), (2, '2026-01-01', 0, 2), (3, 0, '2026-01-01', 3)")
    drain(scenario, "t", options)
    changed = rows(scenario, "t")
    move_back(scenario, "t", "head", rebuild=True)
    assert rows(scenario, "t") == changed
    assert changed[0] == (1, None, None, 1)
    assert verify(scenario, "t").is_equal
    with DuckStore(scenario.path).transaction() as connection:
        connection.execute(f"UPDATE {quote(scenario.database.name, 't')} SET n = 9")
    with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
        verifier = Verifier(
            reader, scenario.config, DuckStore(scenario.path), VerifyOptions(OPTIONS.client_id, timeout_s=60.0)
        )
        repaired = Repairer(verifier, "test").repair(scenario.database.name, "t")
    assert repaired.after.is_equal
    assert (repaired.rebuilt, repaired.count("updated")) == ("", 3)
    assert rows(scenario, "t") == changed
    execute("UPDATE t SET n = n + 1")
    for key in ("day", "at"):  # the changed key needs a load
        with pytest.raises(ConsumeError, match=f"{key} = NULL has a NULL, or an invalid date"):
            drain(scenario, "t", MirrorOptions(key=(key,)))


def test_an_invalid_date_in_a_key_is_refused(on_mysql: Loads) -> None:
    scenario, execute = on_mysql, on_mysql.database.execute
    execute("SET SESSION sql_mode = ''")
    execute("CREATE TABLE t (at DATETIME, n INT)")
    drain(scenario, "t", MirrorOptions(key=("at",)))
    execute("INSERT INTO t VALUES (0, 1)")
    with pytest.raises(ConsumeError, match=r"at = 0000-00-00 00:00:00 has a NULL, or an invalid date"):
        drain(scenario, "t", MirrorOptions(key=("at",)))


def test_a_key_that_the_first_rows_violate_is_corrected(on_mysql: Loads) -> None:
    scenario, execute = on_mysql, on_mysql.database.execute
    execute(COUNTS)
    execute("INSERT INTO counts VALUES ('a', '2026-01-01', 1), ('a', '2026-01-01', 2)")
    with pytest.raises(ConsumeError, match="is that of two rows"):
        drain(scenario, "counts", KEYED)
    execute("DELETE FROM counts WHERE n = 2")
    move_back(scenario, "counts", "head", rebuild=True)
    drain(scenario, "counts", KEYED)
    assert rows(scenario, "counts", "n") == [(1,)]
    assert verify(scenario, "counts").is_equal


def test_a_load_refuses_a_key_with_equal_values(on_mysql: Loads) -> None:
    scenario, execute = on_mysql, on_mysql.database.execute
    execute(f"{COUNTS} COMMENT 'older than the tail'")
    scenario.catch_up()
    execute("INSERT INTO counts VALUES ('a', '2026-01-01', 1), ('a', '2026-01-01', 2)")
    execute("RENAME TABLE counts TO held, held TO loaded")  # no CREATE TABLE of this name is in the stream
    with pytest.raises(ConsumeError, match=r"account = a, day = 2026-01-01 is that of 2 rows.*tries the load again"):
        drain(scenario, "loaded", KEYED)
    with pytest.raises(ConsumeError, match="no table of its mirror, so there is nothing to rebuild"):
        move_back(scenario, "loaded", "head", rebuild=True)
    with pytest.raises(ConsumeError, match="has no column acount, which the `key`"):
        drain(scenario, "loaded", MirrorOptions(key=("acount",)))
    with pytest.raises(ConsumeError, match="tries the load again"):
        drain(scenario, "loaded", replace(KEYED, target_table="other_{table}"))
    assert len(tables(scenario)) == 1  # the rows that were read
    key = ProgressKey(OPTIONS.client_id, scenario.config.source, scenario.database.name, "loaded")
    nats = NatsOptions(url=scenario.nats_url)
    with StreamReader(nats, scenario.config.source) as reader:
        deleted = remove_table(nats, reader, DuckStore(scenario.path), key, drop=True)
    assert f"the rows of {scenario.database.name}.loaded that its first load has read" in deleted
    assert tables(scenario) == []
    execute("DELETE FROM loaded WHERE n = 2")
    drain(scenario, "loaded", KEYED)
    assert verify(scenario, "loaded").is_equal


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(MirrorOptions(), marks=pytest.mark.exhaustive, id="rows"),
        pytest.param(MirrorOptions("gone_at", history=True), id="deleted"),
    ],
)
def test_names_and_metadata_of_mirrors(scenario: Loads, kept: MirrorOptions) -> None:
    execute = scenario.database.execute
    options = replace(
        kept,
        target_schema="raw_{source}",
        target_table="{database}__{table}",
        metadata=("_op", "_commit_ts", "_gtid"),
    )
    execute("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
    execute("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
    execute("RENAME TABLE t TO m")
    begun = datetime.now(UTC)
    drain(scenario, "m", options)
    execute("UPDATE m SET a = 9 WHERE id = 2")
    execute("DELETE FROM m WHERE id = 3")
    execute("ALTER TABLE m ADD b INT FIRST")
    execute("INSERT INTO m VALUES (4, 4, 4)")
    drain(scenario, "m", options)
    assert verify(scenario, "m").is_equal
    schema, name = f"raw_{scenario.config.source}", f"{scenario.database.name}__m"
    assert name in tables(scenario, schema)
    found = query(scenario.path, f"SELECT id, _op, _gtid IS NULL, _commit_ts FROM {quote(schema, name)} ORDER BY id")
    wanted = [(1, "r"), (2, "u"), *([(3, "d")] if kept.deleted_at else []), (4, "c")]
    loaded = {1: query(scenario.path, f"SELECT _op FROM {quote(schema, name)} WHERE id = 1")[0][0]}
    assert loaded[1] in ("r", "c")  # built from the stream after the rename, or read
    assert [(number, op) for number, op, *_ in found[1:]] == wanted[1:]
    assert all(has_none == (op == "r") for _, op, has_none, _ in found)
    assert all(abs((at - begun).total_seconds()) < 600 for *_, at in found)
    execute("DROP TABLE m")
    drain(scenario, "m", options)
    assert verify(scenario, "m").is_equal


def test_metadata_are_added_to_a_mirror_that_exists(on_mysql: Loads) -> None:
    scenario, execute = on_mysql, on_mysql.database.execute
    execute("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
    execute("INSERT INTO t VALUES (1, 1), (2, 2)")
    drain(scenario, "t", MirrorOptions())
    execute("UPDATE t SET a = 3 WHERE id = 2")
    [(gtid,)] = query_server(scenario, "SELECT @@GLOBAL.gtid_executed")
    drain(scenario, "t", MirrorOptions(metadata=("_op", "_gtid")))
    found = rows(scenario, "t")
    assert found[0] == (1, 1, None, None)
    assert found[1][:3] == (2, 3, "u")
    assert found[1][3].split(":")[0] in gtid
    move_back(scenario, "t", "head", rebuild=True)
    assert rows(scenario, "t") == [(1, 1, "r", None), (2, 3, "r", None)]
    assert verify(scenario, "t").is_equal
