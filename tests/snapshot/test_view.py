"""A table is read in one view: without a lock where possible, else with a lock that waits for a limited time."""

from __future__ import annotations

from contextlib import closing

import pytest

from binlogsync.errors import SourceError
from binlogsync.mysql import inspect_server
from binlogsync.position_order import PositionOrder, compare
from binlogsync.snapshot import view
from binlogsync.snapshot.view import LockRequiredError, read_table
from tests.binlog.exact.type_sample import MARIADB, MYSQL
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of

pytestmark = pytest.mark.server


@pytest.mark.parametrize("flavor", [MYSQL, MARIADB])
def test_a_view_is_opened_while_another_connection_holds_a_write_lock(
    flavor: str, request: pytest.FixtureRequest
) -> None:
    database: FreshDatabase = request.getfixturevalue(flavor)
    database.execute("CREATE TABLE t (id INT)")
    database.execute("INSERT INTO t VALUES (1), (2)")
    config = config_of(database.server, "view")
    with closing(database.server.connect(database=database.name, autocommit=False)) as writer:
        writer.query("DELETE FROM t WHERE id = 1")
        with read_table(config, database.name, "t", may_lock=False) as snapshot:
            writer.commit()
            database.execute("INSERT INTO t VALUES (3)")
            rows = [row for batch in snapshot.batches() for row in batch.data.column("after").to_pylist()]
    assert sorted(row["id"] for row in rows) == [1, 2]
    assert compare(snapshot.at.position, inspect_server(config).end()) is PositionOrder.BEFORE


@pytest.mark.parametrize("flavor", [MYSQL, MARIADB])
def test_a_lock_that_is_not_available_is_an_error_with_the_choices(
    flavor: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "LOCK_PATIENCE_S", 0.5)
    database: FreshDatabase = request.getfixturevalue(flavor)
    database.execute("CREATE TABLE t (id INT) ENGINE=MyISAM")
    config = config_of(database.server, "view")
    with pytest.raises(LockRequiredError), read_table(config, database.name, "t", may_lock=False):
        pass
    with closing(database.server.connect(database=database.name)) as writer:
        writer.query("LOCK TABLES t WRITE")
        with (
            pytest.raises(SourceError, match="Choose: read the table at a quieter hour"),
            read_table(config, database.name, "t"),
        ):
            pass
