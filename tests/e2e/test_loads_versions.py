"""Loads under writers of mirrors that keep deleted rows and versions, with each way the server writes its binlog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binlogsync.mirror.target import Mirror
from binlogsync.position import Checkpoint
from binlogsync.servers import MariaDBServer, NATSServer
from binlogsync.targets.mirror_state import MirrorOptions
from tests.binlog.exact.type_sample import MARIADB, MYSQL
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.loads import Loads, TableWriters, create_table, loads
from tests.e2e.mirrored_tables import mirror_table_rows

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.usefixtures("small_chunks"), pytest.mark.exhaustive]
_COLUMNS = "a, b, v, note"
_VERSIONS = [
    (0, MirrorOptions(history=True)),
    (1, MirrorOptions("gone_at")),
    (2, MirrorOptions("gone_at", history=True)),
]


class RecordingMirror(Mirror):
    """Records the checkpoint at which the loaded rows replaced its table."""

    loaded_at: Checkpoint | None = None

    def rebuild(self, *arguments: Any, **named: Any) -> Checkpoint:
        """See RebuildableMirror."""
        self.loaded_at = super().rebuild(*arguments, **named)
        return self.loaded_at


@pytest.fixture(params=[MYSQL, MARIADB])
def scenario(request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> Iterator[Loads]:
    database: FreshDatabase = request.getfixturevalue(request.param)
    [(former,)] = database.execute("SELECT @@GLOBAL.sync_binlog")
    create_table(database)
    try:
        with loads(database, nats_server.url, tmp_path) as running:
            yield running
    finally:
        database.execute(f"SET GLOBAL sync_binlog = {former}")


@pytest.mark.parametrize(("sync_binlog", "options"), _VERSIONS, ids=["0-history", "1-deleted_at", "2-both"])
def test_versions_begin_when_the_loaded_rows_replace_the_table(
    scenario: Loads, sync_binlog: int, options: MirrorOptions
) -> None:
    database, path = scenario.database, scenario.path
    database.execute(f"SET GLOBAL sync_binlog = {sync_binlog}")
    mirror = RecordingMirror(path, database.name, "t", scenario.config, options)
    table = f"{database.name}.t"

    def changes_since_load() -> int:
        if mirror_table_rows(path, (database.name, "t")) is None:
            return 0
        sql = f"SELECT count(*) FROM {table}__history WHERE from_row > 0 OR valid_to IS NOT NULL"
        if not options.history:
            sql = f"SELECT count(gone_at) FROM {table}"
        return int(query(path, sql)[0][0])

    with TableWriters(database, seed=20 + sync_binlog, threads=2, pause_s=0.04):
        scenario.tail.wait_stored(20)
        scenario.consume_until(lambda: changes_since_load() > 0, mirror)
    scenario.drain(mirror)
    found = scenario.server_rows("t", mariadb=isinstance(database.server, MariaDBServer))
    assert found is not None
    at = mirror.loaded_at
    assert at is not None
    alive = query(path, f"SELECT {_COLUMNS} FROM {table}" + (" WHERE gone_at IS NULL" if options.deleted_at else ""))
    assert sorted(repr(list(row)) for row in alive) == found[1:]
    if options.deleted_at:
        assert query(path, f"SELECT min(epoch_us(gone_at)) >= {at.ts_us} FROM {table}") == [(True,)]
    if options.history:
        current = query(path, f"SELECT {_COLUMNS} FROM {table}__history WHERE valid_to IS NULL")
        assert sorted(repr(list(row)) for row in current) == found[1:]
        begun = query(path, f"SELECT DISTINCT from_file, from_pos FROM {table}__history ORDER BY ALL LIMIT 1")
        assert begun == [(at.position.file, at.position.pos)], "no version is older than the loaded rows"
        # Each version of a key ends where the next one begins, at the latest.
        overlaps = f"""
            SELECT count(*) FROM {table}__history AS one JOIN {table}__history AS next
            ON (one.a, one.b) = (next.a, next.b) AND (one.from_file, one.from_pos, one.from_row) <
            (next.from_file, next.from_pos, next.from_row) AND (one.to_file IS NULL OR
            (one.to_file, one.to_pos, one.to_row) > (next.from_file, next.from_pos, next.from_row))"""
        assert query(path, overlaps) == [(0,)]
