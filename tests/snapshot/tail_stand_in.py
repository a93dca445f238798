"""Plays the part of a tail for snapshot requests: begins one, and reports states of it."""

from __future__ import annotations

from dataclasses import replace

from binlogsync.snapshot.requests import (
    SnapshotRequests,
    SnapshotState,
    SnapshotStatus,
    SnapshotTableStatus,
    StoredSnapshot,
    TableState,
)
from tests.waiting import wait_until

TABLES = (("shop", "orders"), ("shop", "items"))
_TABLE_STATES: dict[str, TableState] = {"done": "done", "failed": "failed"}


def carry_out(requests: SnapshotRequests, states: list[SnapshotState], error: str = "") -> None:
    """Play the tail for the only waiting request: begin it, and report these states."""
    found: list[StoredSnapshot] = []

    def find() -> bool:
        found[:] = [each for each in requests.list() if each.status.state == "waiting"]
        return bool(found)

    wait_until(find, 60.0, "a request")
    [stored] = found
    request = replace(stored.request, tables=TABLES, first_ordinal=7)
    for number, state in enumerate(states, 1):
        ends = state in ("done", "failed")
        tables = (
            SnapshotTableStatus(state="done", rows=30, estimate=29),
            SnapshotTableStatus(state=_TABLE_STATES.get(state, "running"), rows=10 * number, estimate=50, error=error),
        )
        status = SnapshotStatus(
            state=state, error=error, tables=tables, began_us=1, updated_us=1 + 1_000_000 * number, ended_us=9 * ends
        )
        updated = requests.update(stored, status, request)
        assert updated is not None
        stored = updated
