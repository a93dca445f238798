"""Verification renders values with separate code: both sides agree for every type, and errors are detected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from binlogsync.binlog.columns import ColumnBuffers
from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify_rows import RowStore
from binlogsync.mysql.result_set.columns import WireColumn
from binlogsync.snapshot import view as reading
from binlogsync.snapshot.view import read_table
from binlogsync.targets.comparison import Comparison
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.fingerprints import fingerprint_query
from binlogsync.targets.duckdb.names import table_sql
from binlogsync.targets.duckdb.state import load_state
from binlogsync.targets.factory import open_comparer
from tests.binlog.exact.compare import insert_rows, sample_rows, settings
from tests.binlog.exact.type_sample import MARIADB, MYSQL
from tests.binlog.exact.type_samples import tables
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of

pytestmark = pytest.mark.server


class VerifiedMirror:
    """A mirror that is built from a snapshot, and its comparison with the server."""

    def __init__(self, database: FreshDatabase, path: Path) -> None:
        self.database, self.path = database, path
        self.config = config_of(database.server, "verify")
        self.file = DuckFile(path / "warehouse.duckdb", error=ConsumeError)

    def mirror(self, table: str) -> None:
        key = ProgressKey("test", "verify", self.database.name, table)
        Mirror(self.file.path, self.database.name, table, self.config).rebuild(key)

    def compare(self, table: str) -> Comparison:
        with self.file.transaction() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            state = load_state(connection, self.database.name, table)
            assert state.schema is not None
            here = connection.sql(fingerprint_query(table_sql(state), state.schema)).to_arrow_table()
        with (
            read_table(self.config, self.database.name, table) as found,
            open_comparer(100, 5) as comparer,
        ):
            store = RowStore(comparer)
            store.fill(found)
            return store.compare(here)


@pytest.mark.parametrize(
    ("flavor", "unlike"),
    [(MYSQL, ""), (MARIADB, MYSQL), pytest.param(MARIADB, "", marks=pytest.mark.exhaustive)],
    ids=["mysql", "types of mariadb alone", "mariadb"],
)
def test_both_sides_render_every_type_equally(
    flavor: str, unlike: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    database: FreshDatabase = request.getfixturevalue(flavor)
    compared = VerifiedMirror(database, tmp_path)
    for number, columns in enumerate(tables(flavor, unlike)):
        with settings(database):
            insert_rows(database, f"s{number}", columns, sample_rows(columns))
        compared.mirror(f"s{number}")
        found = compared.compare(f"s{number}")
        assert found.is_equal, f"{[column.name for column in columns]}: {found}"
        assert found.there == found.here > 0


@pytest.fixture
def small(mysql: FreshDatabase, tmp_path: Path) -> VerifiedMirror:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9))")
    mysql.execute("INSERT INTO t VALUES (1, 'v1:x', NULL), (2, NULL, 'v1:x'), (10, '', 'n')")
    return VerifiedMirror(mysql, tmp_path)


def test_a_wrong_conversion_is_detected(small: VerifiedMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    build = WireColumn.build_array

    def lose(self: WireColumn, written: ColumnBuffers) -> pa.Array:
        array = build(self, written)
        return pc.replace_substring(array, "v1:x", "lost") if self.column.name == "a" else array

    monkeypatch.setattr(WireColumn, "build_array", lose)
    small.mirror("t")
    found = small.compare("t")
    assert [chunk.examples for chunk in found.differing] == [("1 differs",)]


def test_an_incomplete_snapshot_is_an_error(small: VerifiedMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    small.mirror("t")
    select = reading.TableSnapshot.select

    def cut(self: reading.TableSnapshot, columns: str) -> Iterator[tuple[Any, ...]]:
        rows = list(select(self, columns))
        return iter(rows if "COUNT" in columns else rows[:2])

    monkeypatch.setattr(reading.TableSnapshot, "select", cut)
    with pytest.raises(ConsumeError, match="counts 3 rows, but the snapshot has 2"):
        small.compare("t")


def test_a_duplicate_key_in_the_mirror_is_detected(small: VerifiedMirror) -> None:
    small.mirror("t")
    assert small.compare("t").is_equal
    with small.file.transaction() as connection:
        connection.execute(
            f'INSERT INTO "{small.database.name}".t SELECT * FROM "{small.database.name}".t WHERE id = 10'
        )
    found = small.compare("t")
    assert (found.there, found.here) == (3, 4)
    assert [chunk.examples for chunk in found.differing] == [("10 too many",)]
