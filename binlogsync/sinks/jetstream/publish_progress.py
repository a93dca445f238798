"""What of a flush is stored, and what is on its way: kept up to date while pieces go out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from binlogsync.sinks.jetstream.publish_unit import PublishUnit
from binlogsync.sinks.jetstream.unit_queue import UnitQueue


@dataclass(frozen=True, slots=True, eq=False)
class QueuedUnit:
    """A piece, and the flush that it was taken from."""

    unit: PublishUnit
    owner: UnitQueue


@dataclass(slots=True)
class PublishProgress:
    """How far the stream got.

    Attributes:
        last: stream sequence behind the last acknowledged piece.
        stored_id: write id in the last message of the stream when it ended at `last`; None when it was empty.
        unsettled: pieces sent, in part or whole, and not acknowledged. Each is fenced to a place of its own, behind
            the one before it, so those that are stored are the first of them.
        attempts: write id of each attempt to store one of these, and which.
    """

    last: int = 0
    stored_id: str | None = None
    unsettled: deque[QueuedUnit] = field(default_factory=deque)
    attempts: dict[str, QueuedUnit] = field(default_factory=dict)

    def settle(self, write_id: str) -> None:
        """The piece that this attempt was made for is stored, and so are all before it."""
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
        """Nothing is to be sent again."""
        self.unsettled.clear()
        self.attempts.clear()

    def place_of(self, write_id: str) -> int | None:
        """Stream sequence at which the stream ends if this attempt was the last one stored; None for a foreign id."""
        if (reached := self.attempts.get(write_id)) is None:
            return None
        place = self.last
        for queued in self.unsettled:
            place += len(queued.unit)
            if queued is reached:
                return place
        raise AssertionError(f"attempt {write_id} is of a piece that is settled")
