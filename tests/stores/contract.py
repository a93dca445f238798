"""Contract tests of position stores. The test of a store subclasses `PositionStoreContract` and defines the fixture
`opener`; each call of `opener()` opens the same store again, like another process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import LeaseLostError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from binlogsync.stores import Lease, PositionStore
from tests.waiting import wait_until

Opener = Callable[[], PositionStore]

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
AT = Checkpoint(
    BinlogPosition("binlog.000042", 1187), UUID, GtidSet.parse(f"{UUID}:1-5:7,{UUID}:blue:1-3"), 3, 1_700_000
)
LATER = Checkpoint(BinlogPosition("binlog.000043", 4), UUID, GtidSet.parse(f"{UUID}:1-9"), 0, 1_800_000)

BOOKMARK = Bookmark(replace(AT, skip=0), "interval", 1_764_000_000_123_456, 1_764_000_001_000_000, sequence=77)


def large_gtid_set() -> GtidSet:
    """A GTID set as of a long-lived cluster: 40 servers, each with 250 gaps."""
    members = {
        f"{server:08x}-71ca-11e1-9e33-c80aa9429562": tuple((10 * i + 1, 10 * i + 7) for i in range(251))
        for server in range(40)
    }
    return GtidSet(ServerFlavor.MYSQL, members)


class PositionStoreContract:
    """The tests; `store` is an open store, `opener` returns further ones of the same contents."""

    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError("each store's test gives its own")

    @pytest.fixture
    def store(self, opener: Opener) -> Iterator[PositionStore]:
        store = opener()
        yield store
        store.close()

    # checkpoints

    def test_a_new_source_has_neither_checkpoint_nor_lease(self, store: PositionStore) -> None:
        assert store.load("shop") is None
        assert store.lease("shop") is None

    def test_a_claimed_source_has_no_checkpoint_yet(self, store: PositionStore) -> None:
        store.claim("shop", "a")
        assert store.load("shop") is None

    @pytest.mark.parametrize(
        "gtids",
        [
            None,
            GtidSet(),
            GtidSet(ServerFlavor.MARIADB),
            AT.gtids,
            GtidSet.parse("0-1-100,1-2-7,12-3-18446744073709551615"),
        ],
        ids=["no GTIDs", "empty", "empty MariaDB", "MySQL with tags", "MariaDB"],
    )
    def test_a_saved_checkpoint_is_loaded_equal(
        self, opener: Opener, store: PositionStore, gtids: GtidSet | None
    ) -> None:
        checkpoint = Checkpoint(
            BinlogPosition("mysql-bin.1000000", 2**40), "mariadb:7", gtids, 12, 1_700_000_000_000_001
        )
        store.save(store.claim("shop", "a"), checkpoint)
        assert store.load("shop") == checkpoint
        assert opener().load("shop") == checkpoint

    def test_a_large_gtid_set_is_kept_whole(self, store: PositionStore) -> None:
        checkpoint = Checkpoint(BinlogPosition("binlog.000001", 4), UUID, large_gtid_set())
        assert len(checkpoint.to_text()) > 50_000
        store.save(store.claim("shop", "a"), checkpoint)
        assert store.load("shop") == checkpoint

    def test_the_last_save_counts(self, store: PositionStore) -> None:
        lease = store.claim("shop", "a")
        store.save(lease, LATER)
        store.save(lease, AT)
        assert store.load("shop") == AT

    def test_sources_do_not_touch_each_other(self, store: PositionStore) -> None:
        names = [f"source {i}" for i in range(50)] + ["höhe 树洞", "a:b", "a'b", "", "*"]
        for i, name in enumerate(names):
            store.save(store.claim(name, f"owner {i}"), Checkpoint(BinlogPosition("binlog.000001", i), UUID))
        for i, name in enumerate(names):
            loaded, lease = store.load(name), store.lease(name)
            assert loaded is not None
            assert lease is not None
            assert (loaded.position.pos, lease.owner, lease.epoch) == (i, f"owner {i}", 1)

    def test_a_claim_and_a_release_keep_the_checkpoint(self, store: PositionStore) -> None:
        lease = store.claim("shop", "a")
        store.save(lease, AT)
        store.release(lease)
        store.claim("shop", "b")
        assert store.load("shop") == AT

    # bookmarks

    def test_a_new_source_has_no_bookmarks(self, store: PositionStore) -> None:
        assert store.bookmarks("shop") == []
        assert not store.delete_bookmark("shop", BOOKMARK.key)

    @pytest.mark.parametrize(
        "bookmark",
        [
            BOOKMARK,
            replace(BOOKMARK, name="before höhe 树洞; drop", pinned=True, reason="person"),
            replace(BOOKMARK, checkpoint=Checkpoint(BinlogPosition("binlog.000001", 4), UUID, large_gtid_set())),
            replace(BOOKMARK, checkpoint=Checkpoint(BinlogPosition("a-bin.1000000", 4), "mariadb:1"), sequence=None),
        ],
        ids=["tail's", "named", "large GTID set", "no GTIDs"],
    )
    def test_a_bookmark_is_kept_equal(self, opener: Opener, store: PositionStore, bookmark: Bookmark) -> None:
        store.put_bookmark("shop", bookmark)
        assert opener().bookmarks("shop") == [bookmark]

    def test_bookmarks_come_in_the_order_of_their_keys(self, store: PositionStore) -> None:
        minutes = [replace(BOOKMARK, at_us=BOOKMARK.at_us + minute * 60_000_000) for minute in range(30)]
        for bookmark in [*minutes[20:], *minutes[:20]]:
            store.put_bookmark("shop", bookmark)
        assert store.bookmarks("shop") == minutes
        assert store.bookmarks("other") == []

    def test_a_bookmark_of_the_same_key_is_replaced(self, store: PositionStore) -> None:
        store.put_bookmark("shop", BOOKMARK)
        store.put_bookmark("shop", replace(BOOKMARK, pinned=True))
        assert store.bookmarks("shop") == [replace(BOOKMARK, pinned=True)]

    def test_a_deleted_bookmark_is_gone(self, opener: Opener, store: PositionStore) -> None:
        later = replace(BOOKMARK, at_us=BOOKMARK.at_us + 1_000_000)
        for bookmark in (BOOKMARK, later):
            store.put_bookmark("shop", bookmark)
        assert opener().delete_bookmark("shop", BOOKMARK.key)
        assert not store.delete_bookmark("shop", BOOKMARK.key)
        assert store.bookmarks("shop") == [later]

    def test_bookmarks_and_checkpoints_do_not_touch_each_other(self, store: PositionStore) -> None:
        store.put_bookmark("shop", BOOKMARK)
        assert store.load("shop") is None
        assert store.lease("shop") is None
        store.save(store.claim("shop", "a"), AT)
        assert store.bookmarks("shop") == [BOOKMARK]

    def test_what_is_noted_of_a_server_is_replaced(self, opener: Opener, store: PositionStore) -> None:
        assert store.facts("shop") is None
        for text in ('{"server":"höhe"}', "{}"):
            store.put_facts("shop", text)
            assert opener().facts("shop") == text
        assert store.facts("other") is None
        assert store.lease("shop") is None

    # leases

    def test_a_claim_is_seen_by_others(self, opener: Opener, store: PositionStore) -> None:
        claimed = store.claim("shop", "run 1 (höhe)")
        assert claimed == Lease("shop", "run 1 (höhe)", 1, 0.0, False)
        seen = opener().lease("shop")
        assert seen is not None
        assert (seen.source, seen.owner, seen.epoch, seen.released) == ("shop", "run 1 (höhe)", 1, False)
        assert 0 <= seen.age_s < 30

    def test_a_second_owner_is_refused_with_the_name_of_the_first(self, opener: Opener, store: PositionStore) -> None:
        lease = store.claim("shop", "first")
        with pytest.raises(LeaseLostError, match=r"'shop' is held by 'first', last heartbeat \d+\.\d s ago"):
            opener().claim("shop", "second")
        store.save(lease, AT)

    def test_the_same_owner_claims_again_with_a_higher_epoch(self, store: PositionStore) -> None:
        old = store.claim("shop", "a")
        new = store.claim("shop", "a")
        assert (old.epoch, new.epoch) == (1, 2)
        with pytest.raises(LeaseLostError):
            store.save(old, AT)
        store.save(new, AT)

    def test_a_released_lease_is_free_at_once(self, store: PositionStore) -> None:
        lease = store.claim("shop", "a")
        store.release(lease)
        seen = store.lease("shop")
        assert seen is not None
        assert seen.released
        assert store.claim("shop", "b").epoch == 2

    def test_a_heartbeat_does_not_bring_a_released_lease_back(self, store: PositionStore) -> None:
        lease = store.claim("shop", "a")
        store.release(lease)
        store.heartbeat(lease)
        assert store.claim("shop", "b").epoch == 2

    def test_a_silent_lease_is_claimed_after_stale_s(self, store: PositionStore) -> None:
        store.claim("shop", "a")
        wait_until(lambda: _age_s(store) > 0.2, 10, "the lease to age")
        with pytest.raises(LeaseLostError):
            store.claim("shop", "b", stale_s=30)
        assert store.claim("shop", "b", stale_s=0.2).epoch == 2

    @pytest.mark.parametrize("renew", ["save", "heartbeat"])
    def test_a_save_and_a_heartbeat_renew_the_lease(self, store: PositionStore, renew: str) -> None:
        lease = store.claim("shop", "a")
        wait_until(lambda: _age_s(store) > 0.5, 10, "the lease to age")
        if renew == "save":
            store.save(lease, AT)
        else:
            store.heartbeat(lease)
        assert _age_s(store) < 0.5

    def test_an_old_epoch_is_fenced_off_and_told_who_holds_it(self, opener: Opener, store: PositionStore) -> None:
        old = store.claim("shop", "old tail")
        store.save(old, AT)
        other = opener()
        new = other.claim("shop", "new tail", take_over=True)
        assert new.epoch == old.epoch + 1
        other.save(new, LATER)
        with pytest.raises(LeaseLostError, match=r"'new tail' has claimed it since \(epoch 2\)"):
            store.save(old, AT)
        with pytest.raises(LeaseLostError, match=r"'new tail' has claimed it since \(epoch 2\)"):
            store.heartbeat(old)
        store.release(old)
        seen = store.lease("shop")
        assert seen is not None
        assert (seen.owner, seen.released) == ("new tail", False)
        assert store.load("shop") == LATER

    def test_a_lease_of_a_store_that_was_emptied_is_lost(self, store: PositionStore) -> None:
        for lost in (Lease("shop", "a", 3), Lease("never claimed", "a", 1)):
            if lost.source == "shop":
                store.claim("shop", "a")
            with pytest.raises(LeaseLostError, match="emptied or restored"):
                store.save(lost, AT)
            assert store.load(lost.source) is None

    def test_concurrent_claims_have_one_winner_an_epoch(self, opener: Opener, store: PositionStore) -> None:
        together = threading.Barrier(8)

        def claim(number: int) -> Lease:
            mine = opener() if number % 2 else store
            together.wait(30)
            return mine.claim("shop", f"owner {number}", take_over=True)

        with ThreadPoolExecutor(8) as pool:
            leases = list(pool.map(claim, range(8)))
        assert sorted(lease.epoch for lease in leases) == list(range(1, 9))
        held = []
        for lease in leases:
            try:
                store.save(lease, AT)
                held.append(lease.epoch)
            except LeaseLostError:
                continue
        assert held == [8]

    def test_of_concurrent_claims_without_take_over_one_wins(self, opener: Opener, store: PositionStore) -> None:
        together = threading.Barrier(8)

        def claim(number: int) -> int:
            mine = opener() if number % 2 else store
            together.wait(30)
            try:
                return mine.claim("shop", f"owner {number}").epoch
            except LeaseLostError:
                return 0

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(claim, range(8))) == [0] * 7 + [1]

    def test_threads_share_one_store(self, store: PositionStore) -> None:
        def work(number: int) -> None:
            lease = store.claim(f"source {number}", "a")
            for i in range(20):
                store.save(lease, Checkpoint(BinlogPosition("binlog.000001", i), UUID))
                store.heartbeat(lease)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert [_pos(store, f"source {number}") for number in range(4)] == [19] * 4

    def test_close_never_raises_and_can_be_called_twice(self, opener: Opener) -> None:
        store = opener()
        store.close()
        store.close()


def _age_s(store: PositionStore) -> float:
    lease = store.lease("shop")
    assert lease is not None
    return lease.age_s


def _pos(store: PositionStore, source: str) -> int:
    checkpoint = store.load(source)
    assert checkpoint is not None
    return checkpoint.position.pos
