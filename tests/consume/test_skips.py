"""Skipping the change that blocks a consumer: only that one, once, and recorded with progress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.consume.handler import Handler
from binlogsync.consume.progress import ProgressKey, ProgressStore, TableProgress
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.consume.skips import Skip, skip_change, skips_of
from binlogsync.errors import ConfigError, ConsumeError, HandlerError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.sinks.audit_records import record_skip
from binlogsync.targets.duckdb.store import DuckStore
from tests.consume.test_consume import RETRY, SAMPLES, FailingHandler, SampleRow, SampleStream, ids
from tests.duck import query
from tests.nats_commands import delete_stream


@pytest.fixture
def stream(nats_server: NATSServer, request: pytest.FixtureRequest) -> Iterator[SampleStream]:
    name = f"s{abs(hash(request.node.name)) % 10**9}"
    yield SampleStream(nats_server.url, name)
    delete_stream(nats_server.url, stream_name(name))


@pytest.fixture(params=["duckdb", "nats"])
def store(
    request: pytest.FixtureRequest, nats_server: NATSServer, stream: SampleStream, tmp_path: Path
) -> Iterator[object]:
    if request.param == "duckdb":
        yield TableProgress(DuckStore(tmp_path / "progress.duckdb", error=ConsumeError))
        return
    with NatsConnection(NatsOptions(url=nats_server.url), "test") as connection:
        yield NatsProgress(connection, stream.name)


def key(stream: SampleStream) -> ProgressKey:
    return ProgressKey("binlogsync", stream.name, *SAMPLES)


def skip(stream: SampleStream, store: ProgressStore, change_id: str, reason: str = "a test row") -> Skip:
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        return skip_change(reader, key(stream), store, change_id, reason, "Ada")


@pytest.mark.parametrize("per_message", [1, 4])
def test_the_change_that_holds_a_table_up_is_skipped_and_no_other(
    stream: SampleStream, store: ProgressStore, per_message: int
) -> None:
    stream.options = type(stream.options)(url=stream.url, changes_per_message=per_message)
    stream.write(12)
    wanted = ids("samples", 12)
    bad = FailingHandler(wanted[6], times=100)
    with pytest.raises(HandlerError):
        stream.consume(Handler(SampleRow, bad.plain, store, RETRY))
    with pytest.raises(ConsumeError, match=rf"the next change is not {wanted[7]} but {wanted[6]}"):
        skip(stream, store, wanted[7])
    assert skips_of(store, key(stream)) == []

    done = skip(stream, store, wanted[6])
    assert (done.change_id, done.reason, done.by, done.table) == (wanted[6], "a test row", "Ada", "samples")
    assert json.loads(done.change)["op"] == done.op
    assert list(skips_of(store, key(stream))) == [done]
    assert skip(stream, store, wanted[6], "again") == done, "what is skipped is not skipped twice"

    bad.calls.clear()
    stream.consume(Handler(SampleRow, bad.plain, store, RETRY))
    assert bad.calls == wanted[7:]
    with pytest.raises(ConsumeError, match="no change is pending"):
        skip(stream, store, wanted[3])


def test_a_reason_is_asked_for(stream: SampleStream, store: ProgressStore) -> None:
    stream.write(1)
    with pytest.raises(ConfigError, match="a reason is required"):
        skip(stream, store, "x:1", "  ")


def test_the_audit_log_has_each_skip_once(stream: SampleStream, store: ProgressStore, tmp_path: Path) -> None:
    stream.write(3)
    done = skip(stream, store, ids("samples", 3)[0])
    for _ in range(2):
        record_skip(tmp_path / "audit.duckdb", done)
    found = query(tmp_path / "audit.duckdb", "SELECT client, table_name, change_id, reason, skipped_by FROM skips")
    assert found == [("binlogsync", "samples", done.change_id, "a test row", "Ada")]
