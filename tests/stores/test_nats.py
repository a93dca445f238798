"""NatsPositionStore passes the contract tests, and reports problems of its server."""

from __future__ import annotations

import secrets

import pytest

from binlogsync.errors import StoreError
from binlogsync.nats.client import NatsOptions
from binlogsync.servers import NATSServer
from binlogsync.stores.nats import NatsPositionStore
from tests.stores.contract import Opener, PositionStoreContract


class TestNatsPositionStore(PositionStoreContract):
    @pytest.fixture
    def opener(self, nats_server: NATSServer) -> Opener:
        bucket = f"positions_{secrets.token_hex(4)}"
        return lambda: NatsPositionStore(NatsOptions(url=nats_server.url), bucket)


def test_a_server_that_is_not_there_is_an_error_that_says_so() -> None:
    store = NatsPositionStore(NatsOptions(url="nats://u:secret@127.0.0.1:1", connect_timeout_s=60.0))
    with pytest.raises(StoreError, match="positions in the bucket binlogsync_positions: .*127.0.0.1:1") as raised:
        store.checkpoints.load("main")
    assert "secret" not in str(raised.value)
    store.close()
    with pytest.raises(StoreError, match="this store is closed"):
        store.checkpoints.load("main")
