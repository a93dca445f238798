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


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to store a unit. Its fence makes sure that the unit is stored at these sequences, or not at all.

    Attributes:
        queued: the unit.
        start: stream sequence of the message before it.
        end: stream sequence of its last message.
    """

    queued: QueuedUnit
    start: int
    end: int


@dataclass(slots=True)
class PublishProgress:
    """State of publishing.

    Attributes:
        last: stream sequence of the last acknowledged message.
        stored_id: write id in the last message of the stream when it ended at `last`; None when it was empty.
        unsettled: units sent, completely or in part, but not acknowledged. Each is fenced to the sequence after its
            predecessor, so the stored ones are always the first of them.
        attempts: the attempts to store one of these, by write id.
    """

    last: int = 0
    stored_id: str | None = None
    unsettled: deque[QueuedUnit] = field(default_factory=deque)
    attempts: dict[str, Attempt] = field(default_factory=dict)

    def settle(self, write_id: str) -> None:
        """Record that the unit of this attempt, and all before it, are stored."""
        reached = self.attempts[write_id]
        for attempt in self._attempts_up_to(reached):
            self.unsettled.popleft()
            self.last = attempt.end
            attempt.queued.owner.stored(attempt.end)
        waiting = set(map(id, self.unsettled))
        kept = {name: other for name, other in self.attempts.items() if id(other.queued) in waiting} if waiting else {}
        self.attempts = kept
        self.stored_id = write_id

    def _attempts_up_to(self, reached: Attempt) -> list[Attempt]:
        """The attempts that stored the first unsettled units, up to this one: each begins where the one before ends.

        After a lost connection a unit is sent again, possibly with another number of messages.
        """
        found = [reached]
        units = list(self.unsettled)
        for queued in reversed(units[: next(i for i, each in enumerate(units) if each is reached.queued)]):
            found.append(
                next(each for each in self.attempts.values() if each.queued is queued and each.end == found[-1].start)
            )
        return found[::-1]

    def forget(self) -> None:
        """Discard all unsettled units: they are not sent again."""
        self.unsettled.clear()
        self.attempts.clear()

    def end_after(self, write_id: str) -> int | None:
        """Last sequence of the stream if this attempt was the last one stored; None for another writer's id."""
        attempt = self.attempts.get(write_id)
        return None if attempt is None else attempt.end
