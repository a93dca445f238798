"""One flush to every sink at once, and the checkpoint to the position store when the last of them has it.

Each sink has a thread of its own, so that publishing and auditing overlap with each other and with reading. What waits
is bounded in bytes. The first error ends it all: it is raised in the thread that calls `put`, `wait` or `check`; what
was stored before it is counted by `finished` all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from binlogsync.errors import BinlogSyncError
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.sinks import MonitoredSink, PreparingSink, SequencedSink, Sink

log = logging.getLogger(__name__)
_WATCH_S = 2.0


class Fanout:
    """Feeds `sinks` until closed.

    Args:
        sinks: each with the checkpoint that it has, None when it is empty.
        save: keeps the checkpoint that every sink has; called in order, from the sinks' threads. It does not go back
            while a transaction is read again that the sinks hold in part, but follows sinks that have lost what they
            had.
        limit_bytes: flushes that wait may hold so many bytes; one flush is always taken.
    """

    def __init__(
        self, sinks: Mapping[Sink, Checkpoint | None], save: Callable[[Checkpoint], None], limit_bytes: int
    ) -> None:
        self._save = save
        self._limit = limit_bytes
        self._changed = threading.Condition()
        self._stored = dict(sinks)
        self._queues: dict[Sink, deque[Flush]] = {sink: deque() for sink in sinks}
        self._unstored: deque[Flush] = deque()
        self._left: dict[int, int] = {}
        self._sequences: dict[int, int] = {}
        self._sequence: int | None = None  # of the last message that was stored
        self._finished: list[tuple[Flush, Checkpoint]] = []
        self._had_all = _oldest(self._stored.values())
        self._bytes = 0
        self._error: BaseException | None = None
        self._closing = False
        self._threads = [
            threading.Thread(target=self._serve, args=(sink,), name=f"sink-{sink.name}", daemon=True) for sink in sinks
        ]
        for thread in self._threads:
            thread.start()

    def put(self, flush: Flush, tick: Callable[[], None]) -> None:
        """Hand over a flush; waits while too much is waiting, calling `tick` about twice a second."""
        size = flush.nbytes
        while True:
            with self._changed:
                self._raise()
                if not self._unstored or self._bytes + size <= self._limit:
                    self._unstored.append(flush)
                    self._left[flush.number] = len(self._queues)
                    self._bytes += size
                    for queue in self._queues.values():
                        queue.append(flush)
                    self._changed.notify_all()
                    return
                self._changed.wait(0.5)
            tick()

    def wait(self, tick: Callable[[], None]) -> None:
        """Return when every flush is stored and saved."""
        while True:
            with self._changed:
                self._raise()
                if not self._unstored:
                    return
                self._changed.wait(0.5)
            tick()

    def check(self) -> None:
        """Raise the error of a sink that failed."""
        with self._changed:
            self._raise()

    def finished(self) -> list[tuple[Flush, Checkpoint]]:
        """Flushes stored and saved since the last call, without what all sinks had at the start, and what was saved."""
        with self._changed:
            finished, self._finished = self._finished, []
            return finished

    def take_sequence(self, flush: Flush) -> int | None:
        """Stream sequence of the last message of a finished flush; None where no sink numbers, or it had it before."""
        with self._changed:
            return self._sequences.pop(flush.number, None)

    @property
    def waiting(self) -> int:
        """Flushes that are not stored everywhere yet."""
        with self._changed:
            return len(self._unstored)

    @property
    def lagging_sinks(self) -> list[str]:
        """Names of the sinks that have not stored the oldest flush that waits."""
        with self._changed:
            if not self._unstored:
                return []
            last = self._unstored[0].checkpoint
            return [sink.name for sink, at in self._stored.items() if at is None or at.precedes(last)]

    def close(self, tick: Callable[[], None]) -> None:
        """End the threads; a write under way is waited for, what waits behind it is dropped.

        `tick` is called about twice a second meanwhile; when it raises, a thread whose sink hangs is left behind.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.5)
                if thread.is_alive():
                    tick()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _serve(self, sink: Sink) -> None:
        """The thread of one sink."""
        watched_s = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._error is not None or bool(self._queues[sink]),
                    _WATCH_S if isinstance(sink, MonitoredSink) else None,
                )
                if self._closing or self._error is not None:
                    return
                flush = self._queues[sink].popleft() if self._queues[sink] else None
                following = self._queues[sink][0] if self._queues[sink] else None
            try:
                if isinstance(sink, MonitoredSink) and time.monotonic() - watched_s >= _WATCH_S:
                    sink.watch()
                    watched_s = time.monotonic()
                if flush is None:
                    continue
                if following is not None and isinstance(sink, PreparingSink):
                    sink.prepare(following)
                self._write(sink, flush)
                self._count_off(flush)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that feeds us, which raises it
                if not isinstance(error, BinlogSyncError):
                    log.exception("sink %s failed at flush %s", sink.name, flush and flush.number)
                with self._changed:
                    self._error = self._error or error
                    self._changed.notify_all()
                return

    def _write(self, sink: Sink, flush: Flush) -> None:
        """Store what the sink has not; its thread alone touches its checkpoint."""
        stored = self._stored[sink]
        if stored is not None and not stored.precedes(flush.checkpoint) and not _identifies(flush.checkpoint, stored):
            return
        sink.write(_rest(flush, stored))
        self._stored[sink] = flush.checkpoint
        if isinstance(sink, SequencedSink):
            with self._changed:
                self._sequences[flush.number] = self._sequence = sink.last_sequence

    def _count_off(self, flush: Flush) -> None:
        """One sink more has it; the last one saves what all of them have."""
        with self._changed:
            self._left[flush.number] -= 1
            if self._left[flush.number]:
                return
            # Sinks store in order, so the flush that all have now is the oldest one.
            assert self._unstored[0] is flush
            everywhere = _oldest(self._stored.values())
        assert everywhere is not None
        self._save(replace(everywhere, sequence=self._sequence))
        with self._changed:
            del self._left[flush.number]
            self._unstored.popleft()
            self._bytes -= flush.nbytes
            self._finished.append((_rest(flush, self._had_all), everywhere))
            self._changed.notify_all()


def _oldest(checkpoints: Iterable[Checkpoint | None]) -> Checkpoint | None:
    """The one that precedes the others; None when one is None."""
    oldest: Checkpoint | None = None
    for checkpoint in checkpoints:
        if checkpoint is None:
            return None
        if oldest is None or checkpoint.precedes(oldest):
            oldest = checkpoint
    return oldest


def _identifies(checkpoint: Checkpoint, stored: Checkpoint) -> bool:
    """True when it is the same place, and only the new one tells which log it is of."""
    return checkpoint == stored and stored.log is None and checkpoint.log is not None


def _rest(flush: Flush, stored: Checkpoint | None) -> Flush:
    """What a sink with that checkpoint has not; nearly always all of it."""
    return flush if stored is None or not flush.start.precedes(stored) else flush.without_stored(stored)
