"""A damaged mirror is repaired by key while its table is written to, and equals the table afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogsync import servers
from binlogsync.consume.gaps import gaps_of, new_gap, open_gaps, record_gap
from binlogsync.consume.progress import ProgressKey, TableProgress
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.servers import NATSServer
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_state import MirrorOptions
from tests.binlog.exact.type_sample import MARIADB, MYSQL
from tests.databases import MARIADB_TOO, FreshDatabase, fresh_database
from tests.e2e.loads import OPTIONS, Loads, TableWriters, check_equal, create_table, loads, table_loads
from tests.e2e.mirrored_tables import mirror_table_rows
from tests.e2e.repairs import consuming, damage, helper_tables, mirror_of, repair, repairs_of

pytestmark = pytest.mark.server
FULL = MirrorOptions(deleted_at="gone", history=True)
CHANGED = "UPDATE {t} SET note = 'damaged' WHERE a BETWEEN 570 AND 572"
DAMAGE = (
    "DELETE FROM {t} WHERE a BETWEEN 560 AND 564",
    CHANGED,
    "INSERT INTO {t} (a, b, v) VALUES (900, 'x', 1), (901, 'x', 1)",
)
"""Writers do not reach these keys."""
PAUSE_S = 0.3
"""The longest pause of a writer between two transactions: each one costs the tail and the mirror work too."""
ON_MYSQL = pytest.mark.parametrize("scenario", [MYSQL], indirect=True)
"""For what does not depend on the server."""


@pytest.fixture(params=[MYSQL, MARIADB_TOO])
def scenario(request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> Iterator[Loads]:
    database: FreshDatabase = request.getfixturevalue(request.param)
    with table_loads(database, nats_server.url, tmp_path) as running:
        yield running


def live_rows(scenario: Loads, table: str = "t") -> list[tuple[Any, ...]]:
    """The rows of the mirror that are not deleted, without the column of soft deletes."""
    with DuckStore(scenario.path).transaction() as connection:
        names = [row[0] for row in connection.execute(f"DESCRIBE {quote(scenario.database.name, table)}").fetchall()]
        kept = ", ".join(name for name in names if name != "gone")
        where = "WHERE gone IS NULL" if "gone" in names else ""
        found = connection.execute(f"SELECT {kept} FROM {quote(scenario.database.name, table)} {where}").fetchall()
    return sorted(found, key=repr)


def server_rows(scenario: Loads, table: str = "t") -> list[tuple[Any, ...]]:
    with scenario.database.server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {scenario.database.name}.{table}")
        return sorted(cursor.fetchall(), key=repr)


def check_history(scenario: Loads) -> None:
    """The current versions are the rows of the mirror, and the versions of a key do not overlap.

    Positions decide: the time of a repair is the server's clock, and MariaDB logs commit times in whole seconds.
    """
    history = quote(scenario.database.name, "t__history")
    with DuckStore(scenario.path).transaction() as connection:
        current = connection.execute(f"SELECT a, b, v, note FROM {history} WHERE valid_to IS NULL").fetchall()
        overlaps = connection.execute(
            f"SELECT a, b FROM {history} GROUP BY a, b HAVING count(*) FILTER (valid_to IS NULL) > 1"
        ).fetchall()
        reversed_ = connection.execute(
            f"SELECT * FROM {history} WHERE (to_file, to_pos) < (from_file, from_pos)"
        ).fetchall()
    assert (overlaps, reversed_) == ([], [])
    assert sorted(current, key=repr) == live_rows(scenario)


@pytest.mark.parametrize("scenario", [MYSQL, MARIADB_TOO], indirect=True)
def test_rows_that_differ_are_repaired_under_writes(scenario: Loads) -> None:
    mirror = mirror_of(scenario, "t", FULL)
    scenario.consume_until(lambda: mirror_table_rows(scenario.path, mirror.names) is not None, mirror)
    writers = TableWriters(scenario.database, seed=3, pause_s=PAUSE_S)
    with writers, consuming(scenario, lambda: mirror_of(scenario, "t", FULL)):
        damage(scenario, *DAMAGE)
        done = repair(scenario)
        assert done.after.is_equal, done
        assert [done.count(name) for name in ("keys", "rows_read")] == [10, 8]
        assert [done.count(name) for name in ("inserted", "updated", "deleted")] == [5, 3, 2]
        assert (done.records[0].who, done.records[0].first_key) == ("ann", "560/k0")
        assert repairs_of(scenario) == list(done.records)
        # Rows that the writers change meanwhile, perhaps all of them; and one that they do not reach.
        damage(
            scenario,
            CHANGED,
            "UPDATE {t} SET note = 'damaged' WHERE a < 200",
            "DELETE FROM {t} WHERE a BETWEEN 200 AND 300",
        )
        assert (found := repair(scenario)).after.is_equal, found
        assert found.count("updated") >= 3
        assert repair(scenario).records == ()
    scenario.drain(mirror_of(scenario, "t", FULL))
    assert live_rows(scenario) == server_rows(scenario)
    assert helper_tables(scenario) == []
    check_history(scenario)


@pytest.mark.parametrize(
    ("scenario", "stage"),
    [
        pytest.param(MYSQL, "reading", marks=pytest.mark.exhaustive),
        (MYSQL, "stored"),
        pytest.param(MARIADB, "stored", marks=pytest.mark.exhaustive),
    ],
    indirect=["scenario"],
)
def test_a_killed_repair_leaves_a_mirror_that_is_right_or_as_before(scenario: Loads, stage: str) -> None:
    scenario.drain(mirror_of(scenario, "t", FULL))
    damage(scenario, *DAMAGE)
    before = live_rows(scenario)
    arguments = [sys.executable, "-m", "tests.e2e.repairs", scenario.arguments("t"), stage]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{stage}\n"
        # Later changes of the rows that were read, and of others.
        scenario.database.execute("UPDATE t SET v = -1 WHERE a IN (561, 571, 5)")
        scenario.database.execute("DELETE FROM t WHERE a = 562")
        process.kill()
    assert live_rows(scenario) == before
    scenario.drain(mirror_of(scenario, "t", FULL))
    records = repairs_of(scenario)
    if stage == "reading":
        assert records == []
        assert live_rows(scenario) != server_rows(scenario)
        assert repair(scenario).after.is_equal
    else:
        assert [(r.inserted, r.updated, r.deleted) for r in records] == [(5, 3, 2)]
    assert live_rows(scenario) == server_rows(scenario)
    assert helper_tables(scenario) == []
    check_history(scenario)


KEYS = {
    "DATETIME(3)": ["'2020-01-02 03:04:05.678'", "'0000-00-00'", "'2021-00-07 01:02:03.5'"],
    "DATE": ["'2020-01-02'", "'0000-00-00'", "'2021-00-07'"],
    "TIMESTAMP(6) DEFAULT 0": ["'2020-01-02 03:04:05.678901'", "'0000-00-00'"],
    "TIME(2)": ["'-800:01:02.25'", "'00:00:00'", "'12:00:00.5'"],
    "DECIMAL(40, 3)": ["-1.250", "1234567890123456789012345678901234567.5"],
    "DECIMAL(3, 3)": ["-0.125", "0.5"],
    "DOUBLE": ["0.1", "-1e300", "3"],
    "FLOAT": ["0.1", "16777216"],
    "BIT(12)": ["b'101'", "b'0'"],
    "YEAR": ["2020", "0"],
    "BIGINT UNSIGNED": ["18446744073709551615", "0"],
    "VARBINARY(9)": ["x'00ff'", "''", "'\\''"],
    "VARCHAR(9) CHARACTER SET latin1": ["'ü'", "'A'", "'quote\\''"],
    "CHAR(9)": ["'Ab'", "'é '", "''"],
    "ENUM('x', 'it''s')": ["'x'", "'it''s'"],
}


def test_keys_of_every_type_select_their_rows(scenario: Loads) -> None:
    """A date is a key of one column; the other types are a key together, because each repair costs a second."""
    dates = [kind for kind in KEYS if kind.startswith(("DATE", "TIME"))]
    keys = [[kind] for kind in dates] + [[kind for kind in KEYS if kind not in dates]]
    counts = []
    with (
        scenario.database.server.connect(database=scenario.database.name, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
        for number, kinds in enumerate(keys):
            columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(kinds))
            names = ", ".join(f"c{at}" for at in range(len(kinds)))
            cursor.execute(f"CREATE TABLE k{number} ({columns}, v INT, PRIMARY KEY ({names}))")
            counts.append(max(len(KEYS[kind]) for kind in kinds))
            for row in range(counts[-1]):
                values = ", ".join(KEYS[kind][row % len(KEYS[kind])] for kind in kinds)
                cursor.execute(f"INSERT INTO k{number} VALUES ({values}, 1)")
    scenario.catch_up()
    for number, (kinds, count) in enumerate(zip(keys, counts, strict=True)):
        table = f"k{number}"
        scenario.consume(scenario.mirror(table))
        before = live_rows(scenario, table)
        damage(scenario, "DELETE FROM {t}", table=table)
        done = repair(scenario, table)
        assert done.after.is_equal, (kinds, done)
        assert done.count("inserted") == done.count("rows_read") == count == len(before), kinds
        assert live_rows(scenario, table) == before, kinds


@ON_MYSQL
def test_keys_that_only_the_mirror_distinguishes(scenario: Loads) -> None:
    scenario.database.execute("CREATE TABLE w (k VARCHAR(9) PRIMARY KEY, v INT) COLLATE utf8mb4_general_ci")
    scenario.database.execute("INSERT INTO w VALUES ('A', 1), ('b', 2)")
    scenario.drain(scenario.mirror("w"))
    damage(scenario, "UPDATE {t} SET k = 'B' WHERE k = 'b'", "INSERT INTO {t} VALUES ('a', 1), ('b', 7)", table="w")
    damage(scenario, "INSERT INTO {t} VALUES ('A', 1)", table="w")  # a second row
    progress = TableProgress(DuckStore(scenario.path))
    key = ProgressKey(OPTIONS.client_id, scenario.config.source, scenario.database.name, "w")
    record_gap(progress, key, new_gap("retention", "some changes", is_mirror=True))
    done = repair(scenario, "w")
    assert done.after.is_equal, done
    assert not open_gaps(progress, key)
    assert live_rows(scenario, "w") == [("A", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("scenario", "columns", "values"),
    [
        (MYSQL, "v INT", "1, 1"),
        pytest.param(MYSQL, "k SET('a', 'b') PRIMARY KEY", "1, 'a'", marks=pytest.mark.exhaustive),
        pytest.param(MYSQL, "k DATE PRIMARY KEY", "1, '2021-02-31'", marks=pytest.mark.exhaustive),
        (MARIADB, "k DATE PRIMARY KEY", "1, '2021-02-31'"),
    ],
    indirect=["scenario"],
)
def test_a_mirror_without_a_usable_key_is_rebuilt_by_its_consumer(scenario: Loads, columns: str, values: str) -> None:
    scenario.database.execute(f"CREATE TABLE w (n INT, {columns})")
    with scenario.database.server.connect(database=scenario.database.name, autocommit=True) as connection:
        connection.query("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
        connection.query(f"INSERT INTO w VALUES ({values})")
    scenario.drain(scenario.mirror("w"))
    damage(scenario, "UPDATE {t} SET n = 5", table="w")
    with pytest.raises(ConsumeError, match="rebuilds the mirror when it runs next"):
        repair(scenario, "w", timeout_s=0.5)
    with consuming(scenario, lambda: scenario.mirror("w")):
        done = repair(scenario, "w")
    assert done.after.is_equal, done
    assert live_rows(scenario, "w")[0][0] == 1
    key = ProgressKey(OPTIONS.client_id, scenario.config.source, scenario.database.name, "w")
    gaps = gaps_of(TableProgress(DuckStore(scenario.path)), key)
    assert {(gap.kind, bool(gap.resolution)) for gap in gaps} == {("verification", True)}


@ON_MYSQL
def test_another_client_has_no_mirror_to_repair(scenario: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.drain(scenario.mirror("t"))
    damage(scenario, *DAMAGE)
    before = live_rows(scenario)
    monkeypatch.setattr("tests.e2e.repairs.OPTIONS", replace(OPTIONS, client_id="somebody"))
    with pytest.raises(ConfigError, match="client 'somebody' keeps no mirror"):
        repair(scenario)
    assert live_rows(scenario) == before


@pytest.mark.usefixtures("small_chunks")
def test_a_server_without_gtids_is_locked_for_a_moment_only(nats_server: NATSServer, tmp_path: Path) -> None:
    """By a load and by a repair, while the table is written to."""
    options = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}
    with servers.mysql(options=options) as server, fresh_database(server) as database:
        create_table(database)
        with loads(database, nats_server.url, tmp_path) as scenario:
            with TableWriters(database, seed=11, pause_s=0.1):
                scenario.tail.wait_stored(20)
                mirror = (tmp_path / "mirrors.duckdb", (database.name, "t"))
                scenario.consume_until(lambda: mirror_table_rows(*mirror) is not None, scenario.mirror("t"))
            check_equal(scenario)
            damage(scenario, *DAMAGE)
            with TableWriters(database, seed=3, pause_s=PAUSE_S), consuming(scenario, lambda: scenario.mirror("t")):
                done = repair(scenario)
                assert done.after.is_equal, done
                assert done.count("rows_read") == 8
            scenario.drain(scenario.mirror("t"))
            assert live_rows(scenario) == server_rows(scenario)
