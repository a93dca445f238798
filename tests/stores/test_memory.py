"""MemoryPositionStore passes the contract tests, within one object."""

from __future__ import annotations

import pytest

from binlogsync.errors import LeaseLostError
from binlogsync.stores.memory import MemoryPositionStore
from tests.stores.contract import Opener, PositionStoreContract


class TestMemoryPositionStore(PositionStoreContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryPositionStore()
        return lambda: store


def test_a_clock_that_goes_back_neither_keeps_nor_kills_a_lease() -> None:
    now_s = [1000.0]
    store = MemoryPositionStore(clock=lambda: now_s[0])
    store.leases.claim("shop", "a")
    now_s[0] = 10.0
    with pytest.raises(LeaseLostError, match=r"0\.0 s ago"):
        store.leases.claim("shop", "b", stale_s=45)
    now_s[0] = 56.0
    store.leases.load("shop")
    assert store.leases.claim("shop", "b", stale_s=45).epoch == 2
