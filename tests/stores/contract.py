"""Contract tests of a `PositionStore`: those of its three stores, and what they do to each other. The test of a store
subclasses `PositionStoreContract` and defines the fixture `opener`; each call of `opener()` opens the same store again,
like another process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from binlogsync.errors import LeaseLostError
from binlogsync.stores import BookmarkStore, CheckpointStore, Lease, LeaseStore, PositionStore
from tests.stores.contract_bookmarks import BOOKMARK, BookmarkStoreContract
from tests.stores.contract_checkpoints import AT, LATER, CheckpointStoreContract, Claim
from tests.stores.contract_leases import LeaseStoreContract, age_s
from tests.waiting import wait_until

__all__ = ["AT", "BOOKMARK", "LATER", "Opener", "PositionStoreContract"]

Opener = Callable[[], PositionStore]


class PositionStoreContract(CheckpointStoreContract, BookmarkStoreContract, LeaseStoreContract):
    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError("each store's test gives its own")

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[PositionStore]:
        store = opener()
        yield store
        store.close()

    @pytest.fixture
    def open_checkpoints(self, opener: Opener) -> Callable[[], CheckpointStore]:
        return lambda: opener().checkpoints

    @pytest.fixture
    def open_bookmarks(self, opener: Opener) -> Callable[[], BookmarkStore]:
        return lambda: opener().bookmarks

    @pytest.fixture
    def open_leases(self, opener: Opener) -> Callable[[], LeaseStore]:
        return lambda: opener().leases

    @pytest.fixture
    def claim(self, store: PositionStore) -> Claim:
        return lambda source, owner: store.leases.claim(source, owner, take_over=True)

    def test_the_three_do_not_touch_each_other(self, store: PositionStore) -> None:
        store.bookmarks.put("shop", BOOKMARK)
        store.checkpoints.save_facts("shop", "{}")
        assert store.checkpoints.load("shop") is None
        assert store.leases.load("shop") is None
        lease = store.leases.claim("shop", "a")
        store.checkpoints.save(lease, AT)
        store.leases.release(lease)
        store.leases.claim("shop", "b")
        assert store.checkpoints.load("shop") == AT
        assert store.bookmarks.load("shop") == [BOOKMARK]

    def test_a_claim_alone_stops_the_saves_of_the_owner_before(self, opener: Opener, store: PositionStore) -> None:
        old = store.leases.claim("shop", "a")
        opener().leases.claim("shop", "b", take_over=True)
        with pytest.raises(LeaseLostError, match="'b' has claimed it since"):
            store.checkpoints.save(old, AT)
        assert store.checkpoints.load("shop") is None

    def test_a_save_with_the_lease_of_an_emptied_store_is_refused(self, store: PositionStore) -> None:
        with pytest.raises(LeaseLostError, match="emptied or restored"):
            store.checkpoints.save(Lease("never claimed", "a", 1), AT)
        assert store.checkpoints.load("never claimed") is None

    def test_a_save_renews_the_lease(self, store: PositionStore) -> None:
        lease = store.leases.claim("shop", "a")
        wait_until(lambda: age_s(store.leases) > 0.5, 10, "the lease to age")
        begun = time.monotonic()
        store.checkpoints.save(lease, AT)
        assert age_s(store.leases) <= time.monotonic() - begun + 0.1, "not older than the renewal"

    def test_close_never_raises_and_can_be_called_twice(self, opener: Opener) -> None:
        store = opener()
        store.close()
        store.close()
