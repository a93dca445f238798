"""Removal of a source whose mirrors have other owners: nothing is deleted if one of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.errors import ConfigError
from binlogsync.nats.client import NatsOptions
from binlogsync.removal import remove_source
from binlogsync.servers import NATSServer
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.targets import TableStore
from binlogsync.targets.factory import open_store
from binlogsync.targets.progress import NO_PROGRESS, ProgressKey
from binlogsync.targets.records import ReplayRecord
from tests.targets.contract_mirrors import SCHEMA

KEY = ProgressKey("client", "removal", "shop", "things")


@pytest.fixture
def target(tmp_path: Path) -> TableStore:
    """A warehouse with one mirror of one client."""
    store = open_store(tmp_path / "warehouse.duckdb")
    with store.begin() as transaction:
        transaction.create_table(transaction.load_mirror("shop", "things"), SCHEMA)
        transaction.move_progress(KEY, NO_PROGRESS, NO_PROGRESS)
    return store


@pytest.fixture
def positions(tmp_path: Path) -> Iterator[SQLitePositionStore]:
    with closing(SQLitePositionStore(tmp_path / "positions.db")) as store:
        yield store


def add_owner(target: TableStore, key: ProgressKey) -> None:
    with target.begin() as transaction:
        transaction.move_progress(key, NO_PROGRESS, NO_PROGRESS)


def test_nothing_is_deleted_if_a_mirror_has_an_owner_that_stays(
    target: TableStore, positions: SQLitePositionStore
) -> None:
    """No server has the address: the first attempt to delete something there would be another error."""
    add_owner(target, replace(KEY, source="other"))
    nowhere = NatsOptions(url="nats://127.0.0.1:1", connect_timeout_s=0.1, reconnect_timeout_s=0)
    with pytest.raises(ConfigError, match=r"the mirror of shop\.things also belongs to .* source 'other'"):
        remove_source(nowhere, positions, target, "removal", owner="test", drop=True)
    with target.begin() as transaction:
        assert ("shop", "things") in transaction.list_all_mirrors()
        assert KEY in transaction.load_all_progress()
    lease = positions.leases.load("removal")
    assert lease is not None
    assert lease.released


@pytest.mark.server
def test_a_mirror_of_two_clients_of_the_source_is_removed_with_both(
    target: TableStore, positions: SQLitePositionStore, nats_server: NATSServer
) -> None:
    other = replace(KEY, client="other")
    add_owner(target, other)
    deleted = remove_source(NatsOptions(url=nats_server.url), positions, target, "removal", owner="test", drop=True)
    assert set(deleted) == {"the mirror shop.things", f"the progress of {KEY}", f"the progress of {other}"}
    with target.begin() as transaction:
        assert transaction.list_all_mirrors() == set()
        assert transaction.load_all_progress() == {}


@pytest.mark.server
def test_an_unfinished_replay_keeps_no_mirror_and_is_removed_with_its_source(
    target: TableStore, positions: SQLitePositionStore, nats_server: NATSServer
) -> None:
    own = ReplayRecord("1", "removal", "shop", "things", "oldest .. head", "table replay_shop.things", "{}")
    other = replace(own, number="2", source="other")
    with target.begin() as transaction:
        for replay in (own, other):
            transaction.insert_replay(replay)
    for replay in (own, other):
        add_owner(target, replay.key)
    deleted = remove_source(NatsOptions(url=nats_server.url), positions, target, "removal", owner="test", drop=True)
    assert set(deleted) == {
        "the mirror shop.things",
        f"the progress of {KEY}",
        "the unfinished replay 'oldest .. head' of shop.things",
    }
    with target.begin() as transaction:
        assert list(transaction.load_replays()) == [other]
        assert set(transaction.load_all_progress()) == {other.key}
