"""When a tail requests a snapshot itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from binlogsync.snapshot.control import cancel
from binlogsync.snapshot.requests_memory import MemorySnapshotRequests
from binlogsync.tail.snapshot_policy import SnapshotPolicy, request_if_needed


@pytest.mark.parametrize(
    ("policy", "requested"),
    [("never", []), ("when_needed", ["gap"]), ("initial", ["new", "gap"])],
)
def test_the_policy_decides(policy: SnapshotPolicy, requested: list[str]) -> None:
    found = []
    for name, is_new, has_gap in (("none", False, False), ("new", True, False), ("gap", False, True)):
        requests = MemorySnapshotRequests()
        request_if_needed(requests, policy, "main", ("shop.*",), is_new_stream=is_new, has_gap=has_gap)
        found += [name] * len(requests.list())
    assert found == requested


def test_it_is_of_all_captured_tables() -> None:
    requests = MemorySnapshotRequests()
    request_if_needed(requests, "initial", "main", (), is_new_stream=True, has_gap=False)
    request_if_needed(requests, "initial", "main", ("shop.*", "crm.a"), is_new_stream=True, has_gap=False)
    assert [each.request.patterns for each in requests.list()] == [("*.*",), ("shop.*", "crm.a")]


def test_a_tail_that_starts_again_before_it_began_requests_none_twice() -> None:
    requests = MemorySnapshotRequests()

    def start() -> int:
        request_if_needed(requests, "initial", "main", ("shop.*",), is_new_stream=True, has_gap=False)
        return len(requests.list())

    assert [start(), start()] == [1, 1]
    [stored] = requests.list()
    requests.update(stored, replace(stored.status, state="running", began_us=1))
    assert [start(), start()] == [2, 2]
    for each in requests.list():
        cancel(requests, each.request.id)
    assert start() == 3
