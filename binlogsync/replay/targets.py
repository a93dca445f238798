"""The target of a replay. A target stores the changes and the checkpoint after them atomically.

A killed replay is resumed by starting it again with the same request: `begin` then returns the plan of the first start
and the checkpoint up to which changes are stored, and no change is stored twice. A finished replay starts from the
beginning again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.consume.boundaries import drop_applied
from binlogsync.errors import PositionError
from binlogsync.nats.reader import StreamBatch
from binlogsync.position import Checkpoint
from binlogsync.replay.ranges import ReplayPlan, mask_from


@dataclass(frozen=True, slots=True)
class ReplayState:
    """The state of a replay that a target has stored.

    Attributes:
        plan: the plan to execute; when a replay is resumed, the plan of its first start.
        done: the changes before this checkpoint are in the target; None if there are none.
    """

    plan: ReplayPlan
    done: Checkpoint | None = None


class ReplayTarget(Protocol):
    """See the module docstring. Used by one thread."""

    name: str
    """Shown to users: the kind and the location of the target."""

    def begin(self, plan: ReplayPlan) -> ReplayState:
        """Start this plan, or resume an unfinished one with the same request. Raises BinlogSyncError."""

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Store the changes, in order, and the checkpoint after them; may return early when `stop` is set."""

    def finish(self) -> None:
        """Store that the replay is finished."""

    def close(self) -> None:
        """Close files and connections; never raises."""


class MemoryTarget:
    """A target in memory, for notebooks and tests: `batches` are the changes. It cannot resume a killed replay."""

    name = "memory"

    def __init__(self) -> None:
        self.batches: list[ChangeBatch] = []

    def begin(self, plan: ReplayPlan) -> ReplayState:
        """Start with no changes."""
        self.batches = []
        return ReplayState(plan)

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Append the changes to `batches`."""
        self.batches += [item.batch for item in items]

    def finish(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing; `batches` stay."""

    def table(self) -> pa.Table:
        """All changes as one Arrow table: op, before, after and source columns; `.to_pandas()` makes it a DataFrame.

        A column that a change does not have is NULL in its row.
        """
        rows = [batch.data for batch in self.batches if batch.ddl is None]
        tables = [pa.Table.from_batches([data.drop_columns(["seq"])]) for data in rows]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


class AppliedFilter:
    """Removes the changes that a target has stored already; the changes must come in order."""

    def __init__(self, done: Checkpoint | None) -> None:
        self._done = done
        self._is_past = self._has_matched = done is None

    def filter(self, items: Sequence[StreamBatch]) -> list[StreamBatch]:
        """The changes that are not stored yet."""
        if self._is_past:
            return list(items)
        rest, _ = drop_applied(items, self._count_applied)
        self._is_past = bool(rest)
        return rest

    def _count_applied(self, batch: ChangeBatch) -> int:
        """How many changes at the start of the batch are stored."""
        assert self._done is not None
        if batch.server_uuid != self._done.server_uuid:
            return len(batch)  # before the stored checkpoint, in the order of the first start; `check` verifies it
        self._has_matched = True
        return int(mask_from(batch, self._done).false_count)

    def check(self, plan: ReplayPlan) -> None:
        """Call at the end: raises PositionError if no change came from the server of the stored checkpoint."""
        if not self._has_matched and self._done is not None:
            raise PositionError(
                f"{plan.name}: this replay is stored up to {self._done} of server {self._done.server_uuid}, but "
                "no change of that server is in the range now, so it cannot resume; remove its output and start again"
            )
