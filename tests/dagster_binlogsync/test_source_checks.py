"""The checks that query MySQL: they pass for a correct source, and name each problem otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from binlogsync.bookmarks import Bookmark
from binlogsync.mysql import inspect_server, resolve_start
from binlogsync.position import BinlogPosition
from binlogsync.server_facts import ServerFacts
from binlogsync.stores.memory import MemoryPositionStore
from dagster_binlogsync.checks.source_state import positions_kept, server_unchanged
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of


@pytest.mark.server
def test_checks_pass_for_a_correct_source_and_fail_otherwise(mysql: FreshDatabase) -> None:
    config, store = config_of(mysql.server, "main"), MemoryPositionStore()
    assert str(positions_kept(config, store, "main").description).startswith("No position is required yet. Binlogs are")
    here = resolve_start(config)
    store.checkpoints.save(store.leases.claim("main", "test"), here)
    store.checkpoints.save_facts("main", ServerFacts.of(inspect_server(config), 1_700_000_000.0).to_text())
    kept = positions_kept(config, store, "main")
    assert kept.passed
    assert kept.metadata["hours_left"].value == 720.0
    same = server_unchanged(config, store, "main")
    assert (same.passed, same.description) == (True, "The server is unchanged since 2023-11-14 22:13 UTC.")

    gone = replace(here, position=BinlogPosition("binlog.999999", 4), server_uuid="mariadb:7", gtids=None)
    store.bookmarks.put("main", Bookmark(gone, "person", 1, 1, "monday"))
    lost = positions_kept(config, store, "main")
    assert not lost.passed
    assert "bookmark monday at binlog.999999:4 of server mariadb:7: LOST" in str(lost.description)
    with mysql.server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL binlog_row_image = 'NOBLOB'")
        try:
            changed = server_unchanged(config, store, "main")
        finally:
            cursor.execute("SET GLOBAL binlog_row_image = 'FULL'")
    assert (changed.passed, changed.description) == (False, "binlog_row_image is NOBLOB, it was FULL")
