"""Contract tests of a LeaseStore. The test of a store subclasses `LeaseStoreContract` and defines the fixture
`open_leases`; each call opens the same store again, like another process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from binlogsync.errors import LeaseLostError
from binlogsync.stores import Lease, LeaseStore
from tests.waiting import wait_until

OpenLeases = Callable[[], LeaseStore]


class LeaseStoreContract:
    @pytest.fixture
    def open_leases(self) -> OpenLeases:
        raise NotImplementedError("each store's test gives its own")

    @pytest.fixture
    def leases(self, open_leases: OpenLeases) -> LeaseStore:
        return open_leases()

    def test_a_claim_is_seen_by_others(self, open_leases: OpenLeases, leases: LeaseStore) -> None:
        assert leases.load("shop") is None
        assert leases.claim("shop", "run 1 (höhe)") == Lease("shop", "run 1 (höhe)", 1, 0.0, False)
        seen = open_leases().load("shop")
        assert seen is not None
        assert (seen.source, seen.owner, seen.epoch, seen.released) == ("shop", "run 1 (höhe)", 1, False)
        assert 0 <= seen.age_s < 30
        assert leases.load("other") is None

    def test_a_second_owner_is_refused_with_the_name_of_the_first(
        self, open_leases: OpenLeases, leases: LeaseStore
    ) -> None:
        lease = leases.claim("shop", "first")
        with pytest.raises(LeaseLostError, match=r"'shop' is held by 'first', last heartbeat \d+\.\d s ago"):
            open_leases().claim("shop", "second")
        leases.renew(lease)

    def test_the_same_owner_claims_again_with_a_higher_epoch(self, leases: LeaseStore) -> None:
        old, new = leases.claim("shop", "a"), leases.claim("shop", "a")
        assert (old.epoch, new.epoch) == (1, 2)
        with pytest.raises(LeaseLostError):
            leases.renew(old)
        leases.renew(new)

    def test_a_released_lease_is_free_at_once(self, leases: LeaseStore) -> None:
        lease = leases.claim("shop", "a")
        leases.release(lease)
        seen = leases.load("shop")
        assert seen is not None
        assert seen.released
        leases.renew(lease)
        assert leases.claim("shop", "b").epoch == 2, "a renewal does not bring it back"

    def test_a_silent_lease_is_claimed_after_stale_s(self, leases: LeaseStore) -> None:
        leases.claim("shop", "a")
        wait_until(lambda: age_s(leases) > 0.2, 10, "the lease to age")
        with pytest.raises(LeaseLostError):
            leases.claim("shop", "b", stale_s=3600)
        assert leases.claim("shop", "b", stale_s=0.2).epoch == 2

    def test_a_renewed_lease_is_young(self, leases: LeaseStore) -> None:
        lease = leases.claim("shop", "a")
        wait_until(lambda: age_s(leases) > 0.5, 10, "the lease to age")
        begun = time.monotonic()
        leases.renew(lease)
        assert age_s(leases) <= time.monotonic() - begun + 0.1, "not older than the renewal"

    def test_a_lost_lease_is_neither_renewed_nor_released(self, open_leases: OpenLeases, leases: LeaseStore) -> None:
        old = leases.claim("shop", "old tail")
        new = open_leases().claim("shop", "new tail", take_over=True)
        assert new.epoch == old.epoch + 1
        with pytest.raises(LeaseLostError, match=r"'new tail' has claimed it since \(epoch 2\)"):
            leases.renew(old)
        leases.release(old)
        seen = leases.load("shop")
        assert seen is not None
        assert (seen.owner, seen.released) == ("new tail", False)

    def test_a_lease_of_a_store_that_was_emptied_is_lost(self, leases: LeaseStore) -> None:
        leases.claim("shop", "a")
        for lost in (Lease("shop", "a", 3), Lease("never claimed", "a", 1)):
            with pytest.raises(LeaseLostError, match="emptied or restored"):
                leases.renew(lost)

    @pytest.mark.parametrize("take_over", [True, False])
    def test_concurrent_claims_have_one_winner_an_epoch(
        self, open_leases: OpenLeases, leases: LeaseStore, take_over: bool
    ) -> None:
        together = threading.Barrier(8)

        def claim(number: int) -> int:
            mine = open_leases() if number % 2 else leases
            together.wait(120)
            try:
                lease = mine.claim("shop", f"owner {number}", take_over=take_over)
            except LeaseLostError:
                return 0
            together.wait(120) if take_over else None
            try:
                mine.renew(lease)
            except LeaseLostError:
                return -lease.epoch
            return lease.epoch

        with ThreadPoolExecutor(8) as pool:
            epochs = sorted(pool.map(claim, range(8)))
        assert epochs == ([-7, -6, -5, -4, -3, -2, -1, 8] if take_over else [0] * 7 + [1])


def age_s(leases: LeaseStore) -> float:
    """Age of the lease of the source shop."""
    lease = leases.load("shop")
    assert lease is not None
    return lease.age_s
