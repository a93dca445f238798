"""A queue of the units of a flush, built ahead of time by other threads; tracks how many of them are stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from binlogsync.nats.publish_unit import PublishUnit, UnitBuilder

_AHEAD = 3
"""Parts that are being built or wait, while one is being sent."""


class UnitQueue:
    """Units in order. Units that were built for one attempt are reused by the next."""

    def __init__(self, unit_builders: Iterator[UnitBuilder], makers: ThreadPoolExecutor | None) -> None:
        """Without `makers` the calling thread builds them all now: for a small flush, that is faster."""
        self.end = 0
        """Stream sequence of the last stored unit."""
        self.is_begun = False
        """True once a unit was taken."""
        self._builders = unit_builders
        self._makers = makers
        self._making: deque[Future[Sequence[PublishUnit]]] = deque()
        self._made: deque[PublishUnit] = deque()
        self._unstored = 0
        self._ask()

    @property
    def has_next(self) -> bool:
        """True when a unit can be taken, now or later."""
        return bool(self._made or self._making)

    @property
    def is_stored(self) -> bool:
        """True when all units are stored."""
        return not (self._unstored or self._made or self._making)

    def waiting(self) -> Future[Sequence[PublishUnit]] | None:
        """The future to await before `take`; None when `take` need not wait."""
        if self._made or not self._making or self._making[0].done():
            return None
        return self._making[0]

    def take(self) -> PublishUnit | None:
        """The next unit; None at the end. Raises the exception of building it."""
        while not self._made and self._making:
            self._have(self._making[0].result())
        return self._queued() if self._made else None

    def take_built(self, most: int) -> PublishUnit | None:
        """The next unit, if it is built and has at most `most` messages."""
        if not self._made and self._making and self._making[0].done() and self._making[0].exception() is None:
            self._have(self._making[0].result())
        return self._queued() if self._made and len(self._made[0]) <= most else None

    def take_singles(self, limit: int, most: int) -> list[PublishUnit]:
        """All units, if they are at most `most` single messages with bodies of up to `limit` bytes; else none."""
        units = list(self._made)
        if self._making or len(units) > most or any(len(each) > 1 or each.larger_than(limit) for each in units):
            return []
        return [self._queued() for _ in units]

    def stored(self, sequence: int) -> None:
        """Record that the first unit taken but not stored is stored now, up to that stream sequence."""
        self._unstored -= 1
        self.end = sequence

    def drop(self) -> None:
        """Cancel the building of further units."""
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
        if self._makers is None:
            self._build()
            return
        while len(self._making) < _AHEAD and (builder := next(self._builders, None)) is not None:
            self._making.append(self._makers.submit(builder))

    def _build(self) -> None:
        """Build all units; `take` raises the exception of the first that cannot be built."""
        try:
            for builder in self._builders:
                self._made.extend(builder())
        except Exception as error:  # noqa: BLE001 - raised by `take`
            failed: Future[Sequence[PublishUnit]] = Future()
            failed.set_exception(error)
            self._making.append(failed)
