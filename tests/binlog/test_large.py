"""Tables of thousands of columns, and rows of hundreds of megabytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.binlog.dump import end_of_log, record
from tests.databases import FreshDatabase

ROOT = Path(__file__).parents[2]
_TYPES = ("INT", "TINYINT UNSIGNED", "VARCHAR(3)", "DECIMAL(7,2)", "BIT(9)", "DATE", "ENUM('a','b')", "FLOAT")
_VALUES = ("-%d", "%d %% 256", "'%d'", "%d / 4", "%d %% 512", "'2024-01-01' + INTERVAL %d DAY", "1 + %d %% 2", "%d / 8")


@pytest.mark.server
@pytest.mark.parametrize(("flavor", "count"), [("mysql", 3000), ("mariadb", 1500), ("mysql", 1017)])
def test_a_table_of_thousands_of_columns(request: pytest.FixtureRequest, flavor: str, count: int) -> None:
    database: FreshDatabase = request.getfixturevalue(flavor)
    names = [f"c{k}" for k in range(count)]
    columns = ", ".join(f"{name} {_TYPES[k % len(_TYPES)]}" for k, name in enumerate(names))
    engine = "InnoDB" if count == 1017 else "MyISAM"
    database.execute(f"CREATE TABLE wide ({columns}, PRIMARY KEY (c0)) ENGINE = {engine} CHARACTER SET ascii")
    start = end_of_log(database.server)
    values = ", ".join(_VALUES[k % len(_VALUES)] % (k % 100) for k in range(count))
    database.execute(f"INSERT INTO wide VALUES ({values})")
    inserted = database.execute("SELECT * FROM wide")[0]
    database.execute("SET SESSION binlog_row_image = MINIMAL")
    database.execute(f"UPDATE wide SET {names[-1]} = NULL")
    changes = record(database.server, start, lambda name, table: name == database.name).changes()
    assert [change.op for change in changes] == ["c", "u"]
    row = changes[0].after
    assert row is not None
    assert [*row] == names
    plain = [k for k in range(count) if _TYPES[k % len(_TYPES)] != "BIT(9)"]
    assert [row[names[k]] for k in plain] == [inserted[k] for k in plain]
    bits = [k for k in range(count) if _TYPES[k % len(_TYPES)] == "BIT(9)"]
    assert [row[names[k]] for k in bits] == [int.from_bytes(inserted[k], "big") for k in bits]
    assert changes[1].after == {names[-1]: None}
    assert changes[1].before == {"c0": row["c0"]}


@pytest.mark.slow
def test_a_row_of_300_megabytes_takes_little_more_than_twice_its_size() -> None:
    """It is in memory once as received from the socket, and once as a column."""
    command = [sys.executable, "-m", "tests.binlog.huge_row", "--mib", "300"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["lengths"] == [300 << 20]
    assert found["peak_mib"] < 700
