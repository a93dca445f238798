"""Snapshot requests in memory and in NATS pass the contract tests, and wrong requests are refused."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing

import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.errors import ConfigError, StoreError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.servers import NATSServer
from binlogsync.snapshot.requests import SnapshotRequest, SnapshotRequests, new_request
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from tests.nats_commands import ask
from tests.snapshot.contract_requests import FULL, OpenRequests, SnapshotRequestsContract


class TestMemorySnapshotRequests(SnapshotRequestsContract):
    @pytest.fixture
    def open_requests(self) -> OpenRequests:
        requests = MemorySnapshotRequests()
        return lambda: requests


class TestNatsSnapshotRequests(SnapshotRequestsContract):
    @pytest.fixture
    def open_requests(self, nats_server: NATSServer) -> Iterator[OpenRequests]:
        source = f"requests{secrets.token_hex(4)}"
        ask(nats_server.url, lambda js: js.add_stream(name=stream_name(source), subjects=[f"cdc.{source}.>"]))
        opened: list[SnapshotRequests] = []

        def open_requests() -> SnapshotRequests:
            opened.append(NatsSnapshotRequests(NatsOptions(url=nats_server.url), source))
            return opened[-1]

        yield open_requests
        for requests in opened:
            requests.close()


def test_problems_of_the_bucket_are_errors_that_say_so(nats_server: NATSServer) -> None:
    source, options = f"requests{secrets.token_hex(4)}", NatsOptions(url=nats_server.url)
    requests = NatsSnapshotRequests(options, source)
    with pytest.raises(StoreError, match=f"stream {stream_name(source)} does not exist.*start the tail first"):
        requests.create(FULL)
    with NatsConnection(options, "test") as connection:
        KeyValueBucket(connection, f"{stream_name(source)}_snapshots").put("x", b'{"request": 1}')
    with pytest.raises(StoreError, match="cannot be read .*update binlogsync"):
        requests.load("x")
    requests.close()
    with pytest.raises(StoreError, match="this store is closed"):
        requests.list()


def test_a_record_that_cannot_be_read_is_left_out(nats_server: NATSServer, caplog: pytest.LogCaptureFixture) -> None:
    source, options = f"requests{secrets.token_hex(4)}", NatsOptions(url=nats_server.url)
    ask(nats_server.url, lambda js: js.add_stream(name=stream_name(source), subjects=[f"cdc.{source}.>"]))
    with closing(NatsSnapshotRequests(options, source)) as requests:
        requests.create(FULL)
        with NatsConnection(options, "test") as connection:
            bucket = KeyValueBucket(connection, f"{stream_name(source)}_snapshots")
            for key, text in (("x", b'{"request": 1}'), ("y", b"\xff")):
                bucket.put(key, text)
        other = requests.create(new_request(["shop.*"]))
        for _ in range(2):
            assert [each.request.id for each in requests.list()] == [FULL.id, other.request.id]
    warnings = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    starts = [f"bucket {stream_name(source)}_snapshots, key {key}: a snapshot request cannot be read" for key in "xy"]
    assert [text.startswith(start) for text, start in zip(sorted(warnings), starts, strict=True)] == [True, True]


def test_a_server_that_is_not_there_is_an_error_that_says_so() -> None:
    requests = NatsSnapshotRequests(NatsOptions(url="nats://u:secret@127.0.0.1:1", connect_timeout_s=60.0), "shop")
    with pytest.raises(StoreError, match="snapshot requests in the bucket CDC_SHOP_snapshots: .*127.0.0.1:1") as raised:
        requests.list()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"id": "a-b"}, "letters and digits"),
        ({"patterns": ()}, "at least one table"),
        ({"patterns": ("orders",)}, "not a table pattern"),
        ({"where": " "}, "condition of a snapshot is empty"),
        ({"rows_per_s": 0.0}, "above 0"),
        ({"rows_per_s": float("nan")}, "above 0"),
    ],
)
def test_a_wrong_request_is_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        SnapshotRequest(**{"id": "a", "patterns": ("shop.*",), "created_us": 1, **wrong})  # type: ignore[arg-type]


def test_new_requests_have_different_ids() -> None:
    assert new_request(["shop.*"]).id != new_request(["shop.*"]).id
