"""Sources for tests: the configuration of a private server, and what a dump from a checkpoint holds."""

from __future__ import annotations

from dataclasses import replace

from binlogsync.mysql import TLS, BinlogDump, MySQLConfig
from binlogsync.mysql.scan import BEGINS_TRANSACTION, ScannedEvent, scan
from binlogsync.position import Checkpoint
from binlogsync.servers.database import DatabaseServer

PLAIN = TLS("disabled")
ENCRYPTED = TLS("required")


def source_of(server: DatabaseServer, **options: object) -> MySQLConfig:
    """The account that change data capture has; `options` win."""
    config = MySQLConfig(
        host=server.host, port=server.port, user=server.cdc_user, password=server.cdc_password, source="tests"
    )
    return replace(config, **options)  # type: ignore[arg-type]


def plain_source_of(server: DatabaseServer) -> MySQLConfig:
    """The same without TLS, with which each of many connections takes ten times as long."""
    return source_of(server, tls=PLAIN)


def run(server: DatabaseServer, *statements: str) -> list[tuple[object, ...]]:
    """Runs statements as root; the rows of the last."""
    rows: list[tuple[object, ...]] = []
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
    finally:
        connection.close()
    return rows


def transactions(config: MySQLConfig, checkpoint: Checkpoint) -> list[ScannedEvent]:
    """What a dump from there holds, up to the end of the log: the first event of each transaction."""
    with BinlogDump(config, checkpoint, blocking=False) as dump:
        return [event for event in scan(dump) if event.kind in BEGINS_TRANSACTION]
