"""Tracks which units are stored and which are in flight, while units are published."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from binlogsync.nats.publish_unit import PublishUnit
from binlogsync.nats.unit_queue import UnitQueue


@dataclass(frozen=True, slots=True, eq=False)
class QueuedUnit:
    """A unit, and the queue that it came from."""

    unit: PublishUnit
    owner: UnitQueue


@dataclass(slots=True)
class PublishProgress:
    """State of publishing.

    Attributes:
        last: stream sequence of the last acknowledged message.
        stored_id: write id in the last message of the stream when it ended at `last`; None when it was empty.
        unsettled: units sent, completely or in part, but not acknowledged. Each is fenced to the sequence after its
            predecessor, so the stored ones are always the first of them.
        attempts: the unit of each attempt to store one of these, by write id.
    """

    last: int = 0
    stored_id: str | None = None
    unsettled: deque[QueuedUnit] = field(default_factory=deque)
    attempts: dict[str, QueuedUnit] = field(default_factory=dict)

    def settle(self, write_id: str) -> None:
        """Record that the unit of this attempt, and all before it, are stored."""
        reached = self.attempts[write_id]
        while True:
            queued = self.unsettled.popleft()
            self.last += len(queued.unit)
            queued.owner.stored(self.last)
            self.attempts = {name: other for name, other in self.attempts.items() if other is not queued}
            if queued is reached:
                break
        self.stored_id = write_id

    def forget(self) -> None:
        """Discard all unsettled units: they are not sent again."""
        self.unsettled.clear()
        self.attempts.clear()

    def end_after(self, write_id: str) -> int | None:
        """Last sequence of the stream if this attempt was the last one stored; None for another writer's id."""
        if (reached := self.attempts.get(write_id)) is None:
            return None
        sequence = self.last
        for queued in self.unsettled:
            sequence += len(queued.unit)
            if queued is reached:
                return sequence
        raise AssertionError(f"attempt {write_id} belongs to a settled unit")
