"""The pieces of a flush, made ahead by threads, and how many of them are stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from binlogsync.sinks.jetstream.messages import UnitBuilder
from binlogsync.sinks.jetstream.publish_unit import PublishUnit

_AHEAD = 3
"""Stretches that are being made, or wait: one is being sent meanwhile."""


class UnitQueue:
    """Pieces in order. What was made for one attempt is there for the next."""

    def __init__(self, unit_builders: Iterator[UnitBuilder], makers: ThreadPoolExecutor) -> None:
        self.end = 0
        """Stream sequence of the last piece that is stored."""
        self.is_begun = False
        """True when pieces were taken."""
        self._stretches = unit_builders
        self._makers = makers
        self._making: deque[Future[Sequence[PublishUnit]]] = deque()
        self._made: deque[PublishUnit] = deque()
        self._unstored = 0
        self._ask()

    @property
    def is_stored(self) -> bool:
        """True when all of it is."""
        return not (self._unstored or self._made or self._making)

    def waiting(self) -> Future[Sequence[PublishUnit]] | None:
        """What has to be done before `take`; None when there is a piece, or no more."""
        return self._making[0] if self._making and not self._made else None

    def take(self) -> PublishUnit | None:
        """The next piece; None at the end. Raises what making it raised."""
        while not self._made and self._making:
            self._have(self._making[0].result())
        return self._queued() if self._made else None

    def take_single(self) -> PublishUnit | None:
        """The next piece, if it is made by now and is one message."""
        if not self._made and self._making and self._making[0].done() and self._making[0].exception() is None:
            self._have(self._making[0].result())
        return self._queued() if self._made and len(self._made[0]) == 1 else None

    def stored(self, sequence: int) -> None:
        """The first of the pieces that were taken and are not stored is, and ends at that stream sequence."""
        self._unstored -= 1
        self.end = sequence

    def drop(self) -> None:
        """No more are wanted."""
        for making in self._making:
            making.cancel()

    def _have(self, units: Sequence[PublishUnit]) -> None:
        self._making.popleft()
        self._made.extend(units)
        self._ask()

    def _queued(self) -> PublishUnit:
        self.is_begun = True
        self._unstored += 1
        return self._made.popleft()

    def _ask(self) -> None:
        while len(self._making) < _AHEAD and (stretch := next(self._stretches, None)) is not None:
            self._making.append(self._makers.submit(stretch))
