"""The stored state of a deployment of the version before is opened by this one, and continues where it stopped.

`previous_state.tar.xz` has the files that commands of that version wrote in one folder: position store, audit log,
warehouse, and JetStream's store with the stream CDC_MAIN, its schemas, durables and client leases. Nine changes of
shop.orders and shop.notes are stored; the mirrors have applied seven of them.
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position import BinlogPosition
from binlogsync.servers import NATSServer
from binlogsync.sinks.audit import AuditSink
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.targets.mirror_state import MirrorOptions
from tests.duck import query

STATE = Path(__file__).with_name("previous_state.tar.xz")
END = BinlogPosition("binlog.000001", 2757)
SERVER = "4c08975a-ebb2-11f1-81e5-02fc00000001"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with tarfile.open(STATE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "state"


@pytest.fixture
def nats(state: Path) -> Iterator[NATSServer]:
    with servers.nats(state / "nats") as server:
        yield server


def test_the_position_store(state: Path) -> None:
    with closing(SQLitePositionStore(state / "positions.db")) as store:
        checkpoint = store.checkpoints.load("main")
        assert checkpoint is not None
        assert (checkpoint.position, checkpoint.server_uuid, checkpoint.skip) == (END, SERVER, 0)
        assert str(checkpoint.gtids) == f"{SERVER}:1-9"
        assert checkpoint.log is not None
        found = store.bookmarks.load("main")
        assert [mark.name for mark in found if mark.pinned] == ["before the sale"]
        assert len(found) == 4
        lease = store.leases.load("main")
        assert lease is not None
        assert lease.released
        assert store.leases.claim("main", "the next tail").epoch == lease.epoch + 1


def test_the_audit_log(state: Path) -> None:
    sink = AuditSink(state / "audit.duckdb")
    with closing(sink):
        checkpoint = sink.open("main")
    assert checkpoint is not None
    assert checkpoint.position == END


@pytest.mark.server
def test_the_stream(nats: NATSServer) -> None:
    with closing(JetStreamSink(JetStreamOptions(url=nats.url))) as sink:
        checkpoint = sink.open("main")
        assert checkpoint is not None
        assert checkpoint.position == END
    with StreamReader(NatsOptions(url=nats.url), "main") as reader:
        assert sorted(reader.tables()) == [("shop", "notes"), ("shop", "orders")]
        reader.ensure_durable("new", "shop", "orders", 1)
        batches: list[ChangeBatch] = []
        while not reader.has_all("new"):
            for item in reader.fetch("new", 100, 5.0):
                batches.append(item.batch)
                reader.ack(item)
    changes = [change for batch in batches if batch.ddl is None for change in batch.changes()]
    assert [change.op for change in changes] == ["c", "c", "c", "u", "d", "c"]
    assert changes[-1].after == {"id": 4, "item": "cup", "price": Decimal("4.00"), "at": None}


@pytest.mark.server
def test_the_warehouse(state: Path, nats: NATSServer) -> None:
    path = state / "warehouse.duckdb"
    for table, options, new in (("orders", MirrorOptions(history=True), 1), ("notes", MirrorOptions(), 1)):
        with StreamReader(NatsOptions(url=nats.url), "main") as reader:
            target = Mirror(path, "shop", table, None, options)
            done = consume(
                reader, ("shop", table), target, ConsumeOptions(client_id="mirror", idle_s=0.5), threading.Event()
            )
        assert (done.changes, done.gap) == (new, None), "the seven changes before are not applied again"
    assert query(path, "SELECT id, item, price FROM shop.orders ORDER BY id") == [
        (1, "pen", 2),
        (2, "book", 12),
        (4, "cup", 4),
    ]
    assert query(path, "SELECT count(*), count(valid_to) FROM shop.orders__history") == [(5, 2)]
    assert query(path, "SELECT note FROM shop.notes ORDER BY note") == [("a",), ("b",), ("c",)]
