"""A session that logs partial row images causes a reread of its tables at a later position, and blocks no mirror."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from binlogsync.consume.engine import ConsumeOptions, consume_together
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, drain, options_of, stream_sink

pytestmark = [pytest.mark.server, pytest.mark.slow]
QUICK = ConsumeOptions(idle_s=0.5, gather_s=0.05)


def test_one_session_with_partial_images_blocks_no_mirror(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    path, config = tmp_path / "warehouse.duckdb", config_of(mysql.server, f"partial-{mysql.name}")
    tables = ("t", "keyless", "blobs")

    def assert_mirrored() -> None:
        for table in tables:
            here = query(path, f'SELECT * FROM "{mysql.name}"."{table}" ORDER BY ALL')
            assert here == sorted(mysql.execute(f"SELECT * FROM {table}"), key=repr), table

    def write(image: str) -> None:
        mysql.execute(f"SET SESSION binlog_row_image = '{image}'")
        mysql.execute("INSERT INTO t (id) VALUES (3)")
        mysql.execute("UPDATE t SET a = a + 1")
        mysql.execute("UPDATE keyless SET a = a + 1 WHERE b = 'x'")
        mysql.execute("UPDATE blobs SET a = a + 1")
        mysql.execute("SET SESSION binlog_row_image = 'FULL'")
        mysql.execute("DELETE FROM t WHERE id = 3")
        mysql.execute("INSERT INTO keyless VALUES (9, 'z')")
        mysql.execute("INSERT INTO blobs (a, b) VALUES (7, 'more')")

    create = "CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT 7, b VARCHAR(9) DEFAULT 'none')"
    mysql.execute(create)
    mysql.execute("CREATE TABLE keyless (a INT, b VARCHAR(9))")
    mysql.execute("CREATE TABLE blobs (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b BLOB)")
    mysql.execute("INSERT INTO t (id) VALUES (1), (2)")
    mysql.execute("INSERT INTO keyless VALUES (1, 'x'), (2, 'y')")
    mysql.execute("INSERT INTO blobs (a, b) VALUES (1, 'blob')")
    options = options_of(config.source, mysql.name)
    with (
        TailThread(config, [stream_sink(nats_server.url)], MemoryPositionStore(), options) as tail,
        ExitStack() as stack,
    ):
        tail.catch_up()
        reader = stack.enter_context(StreamReader(NatsOptions(url=nats_server.url), config.source))
        for image in ("MINIMAL", "NOBLOB"):
            write(image)
            tail.catch_up()
            for table in tables:
                drain(reader, (mysql.name, table), Mirror(path, mysql.name, table, config), QUICK)
            assert_mirrored()

        # Changes of a table that was dropped since; and in a group.
        mysql.execute("SET SESSION binlog_row_image = MINIMAL")
        mysql.execute("UPDATE t SET a = a + 1")
        mysql.execute("DROP TABLE t")
        mysql.execute(create)
        mysql.execute("SET SESSION binlog_row_image = 'FULL'")
        mysql.execute("INSERT INTO t (id) VALUES (5)")
        write("MINIMAL")
        tail.catch_up()
        mirrors = {(mysql.name, table): Mirror(path, mysql.name, table, config) for table in tables}
        consume_together(reader, mirrors, QUICK, threading.Event())
        assert_mirrored()
