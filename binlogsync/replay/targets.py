"""The target of a replay. A target stores the changes and the checkpoint after them atomically.

A killed replay is resumed by starting it again with the same request: `begin` then returns the plan of the first start
and the checkpoint up to which changes are stored, and no change is stored twice. A finished replay starts from the
beginning again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.boundaries import drop_applied
from binlogsync.errors import PositionError
from binlogsync.nats.reader import StreamBatch
from binlogsync.position import Checkpoint
from binlogsync.replay.ranges import ReplayPlan, checkpoint_before, mask_from


@dataclass(frozen=True, slots=True)
class StoredChanges:
    """Which changes a target has stored.

    Attributes:
        position: of the last one, as text for users; server_uuid: its server.
        count: (number of changes at the start of a batch of that server that are stored, whether the last one is among
            them).
    """

    position: str
    server_uuid: str
    count: Callable[[ChangeBatch], tuple[int, bool]]


def stored_before(checkpoint: Checkpoint) -> StoredChanges:
    """The changes before the checkpoint."""

    def count(batch: ChangeBatch) -> tuple[int, bool]:
        done = int(mask_from(batch, checkpoint).false_count)
        last = checkpoint_before(batch, done - 1) if done else None
        return done, last is not None and (last.position, last.skip + 1) == (checkpoint.position, checkpoint.skip)

    return StoredChanges(str(checkpoint), checkpoint.server_uuid, count)


@dataclass(frozen=True, slots=True)
class ReplayState:
    """The state of a replay that a target has stored.

    Attributes:
        plan: the plan to execute; when a replay is resumed, the plan of its first start.
        done: the changes that are in the target; None if there are none.
    """

    plan: ReplayPlan
    done: StoredChanges | None = None


class ReplayTarget(Protocol):
    """See the module docstring. Used by one thread."""

    name: str
    """Shown to users: the kind and the location of the target."""

    def begin(self, plan: ReplayPlan, stop: threading.Event) -> ReplayState:
        """Start this plan, or resume an unfinished one with the same request. Raises BinlogSyncError.

        `stop` ends each wait for another process, with TargetBusyError.
        """

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

    def begin(self, plan: ReplayPlan, stop: threading.Event) -> ReplayState:
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
    """Removes the changes that a target has stored already; the changes must come in order.

    Positions of two servers do not compare. A change of another server than that of the last stored change is stored
    if it comes before that one.
    """

    def __init__(self, state: ReplayState) -> None:
        self._name, self._done = state.plan.name, state.done
        self._is_past = self._has_matched = state.done is None
        self._has_found_last = self._has_dropped_after_match = False

    def filter(self, items: Sequence[StreamBatch]) -> list[StreamBatch]:
        """The changes that are not stored yet. Raises PositionError as `check` does."""
        if self._is_past:
            return list(items)
        rest, _ = drop_applied(items, self._count_applied)
        if rest:
            self.check()  # before anything is written after changes that may be missing
            self._is_past = True
        return rest

    def _count_applied(self, batch: ChangeBatch) -> int:
        """How many changes at the start of the batch are stored."""
        assert self._done is not None
        if batch.server_uuid != self._done.server_uuid:
            if self._has_found_last:
                return 0
            self._has_dropped_after_match |= self._has_matched
            return len(batch)
        self._has_matched = True
        count, has_last = self._done.count(batch)
        self._has_found_last |= has_last
        return count

    def check(self) -> None:
        """Call at the end: raises PositionError if it is unknown which of the changes are stored."""
        if self._is_past or self._done is None:
            return
        if not self._has_matched:
            missing = "no change of that server is in the range now"
        elif self._has_dropped_after_match and not self._has_found_last:
            missing = "the last stored change is not in the range now, and changes of another server are"
        else:
            return
        raise PositionError(
            f"{self._name}: this replay is stored up to {self._done.position} of server {self._done.server_uuid}, but "
            f"{missing}, so it cannot resume; remove its output and start again"
        )
