"""Reads the changes of a binlog, a stream and an audit log independently, so that tests can compare them."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, RowsEvent, UpdateRowsEvent, WriteRowsEvent

from binlogsync.binlog.reader import BinlogReader, ReaderOptions
from binlogsync.change import RowChange
from binlogsync.codec import subjects
from binlogsync.mysql import BinlogDump, MySQLConfig, ReadAhead, inspect_server, resolve_start
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.server_version import ServerFlavor
from binlogsync.servers.database import DatabaseServer
from tests.duck import mirror_rows, query

ChangeCoordinates = tuple[str, int, int, str, str, str]
"""file, pos, row, op, database, table: the coordinates of a change in any store."""


def binlog_changes(config: MySQLConfig, database: str) -> list[RowChange]:
    """Every change of a database in the server's binlogs, in order, from a non-blocking dump."""
    info = inspect_server(config)
    start = resolve_start(config, "oldest")
    options = ReaderOptions(
        info.server_uuid,
        info.server_id,
        mariadb=info.flavor == ServerFlavor.MARIADB,
        captures=lambda name, table: name == database,
    )
    reader = BinlogReader(options, start)
    found: list[tuple[int, RowChange]] = []
    with BinlogDump(config, start, blocking=False) as dump, ReadAhead(dump) as ahead:
        while not reader.ended and (chunk := ahead.next(90.0)) is not None:
            for stretch in reader.feed(chunk.buffer, chunk.start, chunk.end):
                for batch in (batch for batch in stretch.batches if batch.ddl is None):
                    found += zip(batch.data.column("seq").to_pylist(), batch.changes(), strict=True)
            ahead.recycle(chunk)
    assert reader.ended
    return [change for _, change in sorted(found, key=lambda pair: pair[0])]


def coordinates(change: RowChange) -> ChangeCoordinates:
    source = change.source
    return (source.file, source.pos, source.row, change.op, source.database, source.table)


def stream_coordinates(url: str, source: str) -> list[ChangeCoordinates]:
    """Every change in the stream, in stream order, read with nats-py and json only."""
    return [_envelope_coordinates(envelope) for envelope in envelopes(url, source)]


def stream_ids(url: str, source: str) -> list[str]:
    """Every change as transaction and number in it, which are equal on all servers with the transaction."""
    found = envelopes(url, source)
    return [f"{each['transaction']['id']}:{each['transaction']['total_order'] - 1}" for each in found]


def envelopes(url: str, source: str, client_id: str | None = None) -> list[dict[str, Any]]:
    """Every change in the stream, as it was published; with a client id also the rows that are for it alone."""
    stream, wanted = subjects.stream_name(source), [subjects.all_subjects(source)]
    if client_id is not None:
        wanted.append(f"{subjects.snapshot_prefix(source, client_id)}.>")

    async def read() -> list[dict[str, Any]]:
        client = await nats.connect(url)
        js = client.jetstream()
        found: list[dict[str, Any]] = []
        info = await js.add_consumer(stream, ConsumerConfig(filter_subjects=wanted, ack_policy=AckPolicy.NONE))
        reader = await js.pull_subscribe_bind(info.name, stream=stream)
        left = info.num_pending or 0
        while left:
            messages = await reader.fetch(1000, timeout=60)
            left = messages[-1].metadata.num_pending
            for message in messages:
                if subjects.parse_table_subject(message.subject) is not None and message.data:
                    found.append(json.loads(message.data))
        await reader.unsubscribe()
        await client.close()
        return found

    return asyncio.run(read())


def _envelope_coordinates(envelope: dict[str, Any]) -> ChangeCoordinates:
    source = envelope["source"]
    return (source["file"], source["pos"], source["row"], envelope["op"], source["db"], source["table"])


def stream_changes(url: str, source: str, database: str, table: str) -> list[RowChange]:
    """The changes of one table with their values, read as a consumer does."""
    found: list[RowChange] = []
    with StreamReader(NatsOptions(url=url), source) as reader:
        if (database, table) not in reader.tables():
            return []
        durable = subjects.durable_name("oracle", database, table)
        reader.ensure_durable(durable, database, table, 1)
        while not reader.has_all(durable):
            for item in reader.fetch(durable, 5000, 0.5):
                found += item.batch.changes()
        reader.delete_durable(durable)
    return found


def audit_coordinates(path: Path) -> list[ChangeCoordinates]:
    """Every change in an audit log, in the order of storage."""
    return query(path, "SELECT file, pos, row, op, database, table_name FROM changes ORDER BY rowid")


def mysql_replication_counts(server: DatabaseServer, database: str) -> Counter[tuple[str, str]]:
    """(table, op) -> rows, as mysql-replication counts them."""
    kinds = {WriteRowsEvent: "c", UpdateRowsEvent: "u", DeleteRowsEvent: "d"}
    counts: Counter[tuple[str, str]] = Counter()
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOGS")
        first = cursor.fetchall()[0][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it connects by argument names that pymysql gives up
        stream = BinLogStreamReader(
            connection_settings={
                "host": server.host,
                "port": server.port,
                "user": server.cdc_user,
                "password": server.cdc_password,
            },
            server_id=4_000_000_001,
            log_file=first,
            log_pos=4,
            resume_stream=True,
            blocking=False,
            only_events=list(kinds),
            only_schemas=[database],
            enable_logging=False,
        )
        for event in stream:
            assert isinstance(event, RowsEvent)
            counts[event.table, kinds[type(event)]] += len(event.rows)
        stream.close()
    return counts


def table_rows(server: DatabaseServer, database: str, table: str) -> list[tuple[Any, ...]]:
    """The rows of SELECT *, in the order of `mirror_rows`."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {database}.{table}")
        return sorted(cursor.fetchall(), key=repr)


def assert_same(found: Sequence[object], wanted: Sequence[object], what: str) -> None:
    """Assert that both are equal, in order; a failure reports the first difference."""
    if found == wanted:
        return
    at = next((i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(found), len(wanted)) if at is None else at
    counts = Counter(found)
    raise AssertionError(
        f"{what}: {len(found)} changes, {len(wanted)} wanted; {len(found) - len(counts)} duplicated, "
        f"{len(set(wanted) - set(counts))} missing; the first difference is at {at}: {found[at : at + 2]} instead of "
        f"{wanted[at : at + 2]}"
    )


def assert_exact(location: tuple[MySQLConfig, str], url: str, source: str) -> list[RowChange]:
    """Assert that the stream has each change once, in order and with its values; `location` is (config, database)."""
    config, database = location
    wanted = binlog_changes(config, database)
    assert_same(stream_coordinates(url, source), [coordinates(change) for change in wanted], f"stream of {source}")
    for table in {change.source.table for change in wanted}:
        there = [change for change in wanted if change.source.table == table]
        assert stream_changes(url, source, database, table) == there, f"values of {table}"
    return wanted


def assert_same_history(
    location: tuple[MySQLConfig, str], url: str, source: str, keyless: Sequence[str] = ()
) -> list[RowChange]:
    """Like assert_exact, for a stream with changes of several servers; the binlog of the last one has all of them.

    A replica may log the rows of one statement on a table without a key in a different order.
    """
    config, database = location
    wanted = binlog_changes(config, database)
    assert_same(stream_ids(url, source), [change.id for change in wanted], f"stream of {source}")
    for table in {change.source.table for change in wanted}:
        found = [_values(change) for change in stream_changes(url, source, database, table)]
        there = [_values(change) for change in wanted if change.source.table == table]
        if table in keyless:
            found, there = sorted(found, key=repr), sorted(there, key=repr)
        assert_same([repr(each) for each in found], [repr(each) for each in there], table)
    return wanted


def _values(change: RowChange) -> tuple[object, ...]:
    return (change.source.gtid, change.op, change.before, change.after)


def assert_mirrored(server: DatabaseServer, path: Path, database: str, table: str) -> None:
    """Assert that the mirror equals SELECT."""
    assert mirror_rows(path, database, table) == table_rows(server, database, table), table
