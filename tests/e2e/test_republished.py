"""An old message of the stream, published again with its headers: no change is written twice, mirrors stay exact."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.js import JetStreamContext

from binlogsync.codec.envelope import CHECKPOINT
from binlogsync.codec.subjects import checkpoint_subject, stream_name
from binlogsync.errors import PositionError
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase
from tests.e2e.oracle import assert_mirrored
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink
from tests.nats_commands import ask
from tests.sinks.jetstream_streams import read_all

pytestmark = pytest.mark.server


def publish_again(url: str, source: str, sequence: int) -> None:
    """Publish the message like a bridge, which removes the headers that JetStream reads."""

    async def publish(js: JetStreamContext) -> None:
        message = await js.get_msg(stream_name(source), sequence)
        headers = {name: value for name, value in (message.headers or {}).items() if not name.startswith("Nats-")}
        await js.publish(message.subject or "", message.data or b"", headers=headers)

    ask(url, publish)


def tail_of(database: FreshDatabase, source: str, url: str, store: MemoryPositionStore) -> TailThread:
    options = options_of(source, database.name, start="now")
    return TailThread(config_of(database.server, source), [stream_sink(url)], store, options)


@pytest.mark.parametrize("while_running", [False, True])
def test_an_old_message_published_again_is_no_checkpoint(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path, while_running: bool
) -> None:
    source, store = f"again{int(while_running)}", MemoryPositionStore()
    mysql.execute("CREATE TABLE keyless (n INT)")
    with tail_of(mysql, source, nats_server.url, store) as tail:
        tail.wait_begun()
        for number in range(30):
            mysql.execute(f"INSERT INTO keyless VALUES ({number})")
        tail.catch_up()
        if while_running:
            publish_again(nats_server.url, source, 4)
            mysql.execute("INSERT INTO keyless VALUES (1000)")
            tail.catch_up()
    if not while_running:
        publish_again(nats_server.url, source, 4)
    with tail_of(mysql, source, nats_server.url, store) as tail:
        tail.wait_begun()
        for number in range(30, 60):
            mysql.execute(f"INSERT INTO keyless VALUES ({number})")
        tail.catch_up()
    changes = [(row["file"], row["pos"], row["row"]) for _, row in read_all(nats_server.url, source)]
    assert len(changes) == len(set(changes)) == 60 + while_running
    mirror(nats_server.url, source, tmp_path / "mirror.duckdb", (mysql.name, "keyless"))
    assert_mirrored(mysql.server, tmp_path / "mirror.duckdb", mysql.name, "keyless")


def test_a_stream_without_checkpoints_is_refused(mysql: FreshDatabase, nats_server: NATSServer) -> None:
    """Messages of an older version are accepted once, unless the store has a checkpoint of this version."""
    source, store = "unproven", MemoryPositionStore()
    mysql.execute("CREATE TABLE t (n INT)")
    with tail_of(mysql, source, nats_server.url, store) as tail:
        tail.wait_begun()
        mysql.execute("INSERT INTO t VALUES (1)")
        tail.catch_up()
    saved = store.checkpoints.load(source)
    assert saved is not None
    assert saved.sequence is not None

    async def replace_all(js: JetStreamContext) -> None:
        await js.purge_stream(stream_name(source))
        record = saved.to_text().replace(f',"sequence":{saved.sequence}', "")
        await js.publish(checkpoint_subject(source), b"", headers={CHECKPOINT: record})

    ask(nats_server.url, replace_all)
    with tail_of(mysql, source, nats_server.url, store) as tail:
        error = tail.end()
    assert isinstance(error, PositionError)
    assert "is a copy" in str(error)
    assert f"nats stream purge {stream_name(source)}" in str(error)
    ask(nats_server.url, lambda js: js.purge_stream(stream_name(source)))
    with tail_of(mysql, source, nats_server.url, store) as tail:
        tail.wait_begun()
        mysql.execute("INSERT INTO t VALUES (2)")
        tail.catch_up()
    assert [row["after"] for _, row in read_all(nats_server.url, source)] == [{"n": 2}]
