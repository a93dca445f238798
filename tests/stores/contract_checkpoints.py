"""Contract tests of a CheckpointStore. The test of a store subclasses `CheckpointStoreContract`, and defines the
fixtures `open_checkpoints` (each call opens the same store again, like another process) and `claim` (a new lease).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from binlogsync.errors import LeaseLostError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from binlogsync.stores import CheckpointStore, Lease
from tests.stores.process import UUID, large_gtid_set

OpenCheckpoints = Callable[[], CheckpointStore]
Claim = Callable[[str, str], Lease]
"""(source, owner) -> a lease whose epoch is the highest so far."""

AT = Checkpoint(
    BinlogPosition("binlog.000042", 1187), UUID, GtidSet.parse(f"{UUID}:1-5:7,{UUID}:blue:1-3"), 3, 1_700_000
)
LATER = Checkpoint(BinlogPosition("binlog.000043", 4), UUID, GtidSet.parse(f"{UUID}:1-9"), 0, 1_800_000)


class CheckpointStoreContract:
    @pytest.fixture
    def open_checkpoints(self) -> OpenCheckpoints:
        raise NotImplementedError("each store's test gives its own")

    @pytest.fixture
    def claim(self) -> Claim:
        raise NotImplementedError("each store's test gives its own")

    @pytest.fixture
    def checkpoints(self, open_checkpoints: OpenCheckpoints) -> CheckpointStore:
        return open_checkpoints()

    def test_a_new_source_has_no_checkpoint(self, checkpoints: CheckpointStore, claim: Claim) -> None:
        assert checkpoints.load("shop") is None
        claim("shop", "a")
        assert checkpoints.load("shop") is None

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
        self, open_checkpoints: OpenCheckpoints, checkpoints: CheckpointStore, claim: Claim, gtids: GtidSet | None
    ) -> None:
        checkpoint = Checkpoint(
            BinlogPosition("mysql-bin.1000000", 2**40), "mariadb:7", gtids, 12, 1_700_000_000_000_001
        )
        checkpoints.save(claim("shop", "a"), checkpoint)
        assert checkpoints.load("shop") == checkpoint
        assert open_checkpoints().load("shop") == checkpoint

    def test_a_large_gtid_set_is_kept_whole(self, checkpoints: CheckpointStore, claim: Claim) -> None:
        checkpoint = Checkpoint(BinlogPosition("binlog.000001", 4), UUID, large_gtid_set())
        assert len(checkpoint.to_text()) > 50_000
        checkpoints.save(claim("shop", "a"), checkpoint)
        assert checkpoints.load("shop") == checkpoint

    def test_the_last_save_counts(self, checkpoints: CheckpointStore, claim: Claim) -> None:
        lease = claim("shop", "a")
        checkpoints.save(lease, LATER)
        checkpoints.save(lease, AT)
        assert checkpoints.load("shop") == AT

    def test_sources_do_not_touch_each_other(self, checkpoints: CheckpointStore, claim: Claim) -> None:
        names = [f"source {i}" for i in range(50)] + ["höhe 树洞", "a:b", "a'b", "", "*"]
        for i, name in enumerate(names):
            checkpoints.save(claim(name, f"owner {i}"), replace(LATER, position=BinlogPosition("binlog.000001", i)))
        assert [_pos(checkpoints, name) for name in names] == list(range(len(names)))

    def test_a_save_of_an_earlier_epoch_is_refused(
        self, open_checkpoints: OpenCheckpoints, checkpoints: CheckpointStore, claim: Claim
    ) -> None:
        old = claim("shop", "old tail")
        checkpoints.save(old, AT)
        open_checkpoints().save(claim("shop", "new tail"), LATER)
        with pytest.raises(LeaseLostError, match=r"'new tail' has claimed it since \(epoch 2\)"):
            checkpoints.save(old, AT)
        assert checkpoints.load("shop") == LATER

    def test_facts_about_a_server_are_replaced(
        self, open_checkpoints: OpenCheckpoints, checkpoints: CheckpointStore
    ) -> None:
        assert checkpoints.load_facts("shop") is None
        for text in ('{"server":"höhe"}', "{}"):
            checkpoints.save_facts("shop", text)
            assert open_checkpoints().load_facts("shop") == text
        assert checkpoints.load_facts("other") is None
        assert checkpoints.load("shop") is None

    def test_checkpoint_and_facts_are_deleted_by_the_owner_of_the_lease(
        self, open_checkpoints: OpenCheckpoints, checkpoints: CheckpointStore, claim: Claim
    ) -> None:
        for source in ("shop", "other"):
            checkpoints.save(claim(source, "a"), AT)
            checkpoints.save_facts(source, "{}")
        lease = claim("shop", "b")
        checkpoints.delete(lease)
        assert open_checkpoints().load("shop") is None
        assert open_checkpoints().load_facts("shop") is None
        assert (checkpoints.load("other"), checkpoints.load_facts("other")) == (AT, "{}")
        checkpoints.delete(lease)
        later = claim("shop", "c")
        checkpoints.save(later, LATER)
        with pytest.raises(LeaseLostError):
            checkpoints.delete(lease)
        assert checkpoints.load("shop") == LATER

    def test_threads_share_one_store(self, checkpoints: CheckpointStore, claim: Claim) -> None:
        def work(number: int) -> None:
            lease = claim(f"source {number}", "a")
            for i in range(20):
                checkpoints.save(lease, Checkpoint(BinlogPosition("binlog.000001", i), UUID))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert [_pos(checkpoints, f"source {number}") for number in range(4)] == [19] * 4


def _pos(checkpoints: CheckpointStore, source: str) -> int:
    checkpoint = checkpoints.load(source)
    assert checkpoint is not None
    return checkpoint.position.pos
