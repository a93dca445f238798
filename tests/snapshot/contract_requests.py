"""Contract tests of SnapshotRequests. The test of a store subclasses `SnapshotRequestsContract` and defines the fixture
`open_requests`; each call opens the same requests again, like another process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from binlogsync.errors import StoreError
from binlogsync.snapshot.requests import (
    SnapshotRequest,
    SnapshotRequests,
    SnapshotStatus,
    SnapshotTableStatus,
    StoredSnapshot,
    new_request,
)

OpenRequests = Callable[[], SnapshotRequests]

FULL = SnapshotRequest(
    id="a1B2",
    patterns=("shop.*", "`my.db`.`t,1`"),
    created_us=1_764_000_000_123_456,
    where="name = 'höhe' AND \"x\" < 1e3",
    subject="cdc.shop._snapshot.a1B2",
    rows_per_s=0.5,
)


class SnapshotRequestsContract:
    @pytest.fixture
    def open_requests(self) -> OpenRequests:
        raise NotImplementedError("each store's test gives its own")

    @pytest.fixture
    def requests(self, open_requests: OpenRequests) -> SnapshotRequests:
        return open_requests()

    def test_a_source_without_requests_has_none(self, requests: SnapshotRequests) -> None:
        assert requests.list() == []
        assert requests.load("a1B2") is None
        with pytest.raises(StoreError, match="no snapshot request a1B2"):
            requests.update(StoredSnapshot(FULL, SnapshotStatus(), 1), SnapshotStatus())

    def test_a_request_is_kept_equal_and_waits(self, open_requests: OpenRequests, requests: SnapshotRequests) -> None:
        made = requests.create(FULL)
        assert (made.request, made.status) == (FULL, SnapshotStatus())
        assert open_requests().list() == [made]
        assert open_requests().load(FULL.id) == made
        with pytest.raises(StoreError, match="request a1B2 exists"):
            open_requests().create(FULL)

    def test_the_tail_adds_what_it_found(self, open_requests: OpenRequests, requests: SnapshotRequests) -> None:
        made = requests.create(FULL)
        begun = replace(FULL, tables=(("shop", "a"), ("my.db", "t,1")), first_ordinal=4_000_000_000)
        tables = (
            SnapshotTableStatus(state="running", rows=3, estimate=10),
            SnapshotTableStatus(state="failed", error="no key"),
        )
        status = SnapshotStatus(state="running", error="x", tables=tables, began_us=1, updated_us=2, ended_us=3)
        changed = requests.update(made, status, begun)
        assert changed is not None
        assert (changed.request, changed.status) == (begun, status)
        assert open_requests().load(FULL.id) == changed
        later = open_requests().update(changed, replace(status, state="done"))
        assert later is not None
        assert later.request == begun
        assert requests.list() == [later]

    def test_of_two_updates_of_one_revision_the_second_stores_nothing(
        self, open_requests: OpenRequests, requests: SnapshotRequests
    ) -> None:
        made = requests.create(FULL)
        paused = open_requests().update(made, SnapshotStatus(state="paused"))
        assert requests.update(made, SnapshotStatus(state="running")) is None
        assert requests.update(made, SnapshotStatus(state="running"), FULL) is None
        assert requests.load(FULL.id) == paused

    def test_requests_come_in_the_order_of_their_creation(
        self, open_requests: OpenRequests, requests: SnapshotRequests
    ) -> None:
        made = [replace(FULL, id=f"r{number}", created_us=100 - number) for number in range(5)]
        listing = open_requests()
        for count, request in enumerate(made):
            assert [each.request for each in listing.list()] == made[:count][::-1]
            requests.create(request)
        assert [each.request for each in listing.list()] == made[::-1]

    def test_the_oldest_of_many_that_ended_are_forgotten(self, requests: SnapshotRequests) -> None:
        waiting = requests.create(replace(FULL, id="waiting", created_us=0))
        ended = []
        for number in range(53):
            made = requests.create(replace(new_request(["shop.t"]), created_us=number + 1))
            ended.append(requests.update(made, SnapshotStatus(state="done")))
        assert list(requests.list()) == [waiting, *ended[2:]]
