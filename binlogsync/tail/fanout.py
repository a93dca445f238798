"""Writes each flush to all sinks concurrently, and saves the checkpoint when the last sink has stored it.

Each sink has its own thread, so that publishing and auditing overlap with each other and with reading. A small eager
flush does not wake it, if the sink can store the flush without waiting (`Sink.start`). The size of the queues is
limited. The first error stops all threads and is raised in the thread that calls `put`, `wait` or `check`;
`finished` still returns the flushes that were stored before it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from binlogsync.errors import BinlogSyncError
from binlogsync.flush import Flush, FlushReason, merge_flushes
from binlogsync.position import Checkpoint
from binlogsync.position_order import compare_or_raise
from binlogsync.sinks import Sink
from binlogsync.tail.accumulate import FlushRules
from binlogsync.tail.sink_queue import SinkQueue

log = logging.getLogger(__name__)
_WATCH_S = 2.0


class Fanout:
    """Writes flushes to `sinks` until closed.

    Args:
        sinks: each with its checkpoint, None when it is empty.
        save: saves the checkpoint that every sink has reached; called in order, from the sinks' threads. It does not
            move back while a transaction is read again that the sinks have in part, but moves back with sinks that
            have lost data.
        note: the same, but must not wait; called after `Sink.start`, in any thread.
        limit_bytes: maximum size of the queued flushes; a single flush is always accepted.
        rules: when sinks that merge flushes store them, if the tail flushes eagerly.
    """

    def __init__(
        self,
        sinks: Mapping[Sink, Checkpoint | None],
        save: Callable[[Checkpoint], None],
        limit_bytes: int,
        rules: FlushRules | None = None,
        note: Callable[[Checkpoint], None] | None = None,
    ) -> None:
        self.on_idle: Callable[[], None] = lambda: None
        """Called, in any thread, when a sink that does not merge flushes has stored one."""
        self._save = save
        self._note = note or save
        self._limit = limit_bytes
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # for the threads of the sinks
        self._drained = threading.Condition(self._lock)  # for the thread of the tail
        self._stored = dict(sinks)
        merging = rules if rules is not None and rules.is_eager else None
        self._queues = {sink: SinkQueue(merging if sink.merges_flushes else None) for sink in sinks}
        self._prompt = [queue for queue in self._queues.values() if not queue.merges]
        self._unstored: deque[Flush] = deque()
        self._left: dict[int, int] = {}
        self._sequences: dict[int, int] = {}
        self._sequence: int | None = None  # of the last message that was stored
        self._finished: list[tuple[Flush, Checkpoint]] = []
        self._had_all = _oldest(self._stored.values())
        self._bytes = 0
        self._error: BaseException | None = None
        self._started = 0  # flushes that sinks have started and not ended
        self._closing = self._ending = False
        self._threads = [
            threading.Thread(target=self._serve, args=(sink,), name=f"sink-{sink.name}", daemon=True) for sink in sinks
        ]
        for thread in self._threads:
            thread.start()

    def put(self, flush: Flush, tick: Callable[[], None]) -> None:
        """Queue a flush; waits while the queue is full, calling `tick` about twice a second."""
        size = flush.nbytes
        while True:
            with self._changed:
                self._raise()
                if not self._unstored or self._bytes + size <= self._limit:
                    self._unstored.append(flush)
                    self._left[flush.number] = len(self._queues)
                    self._bytes += size
                    for queue in self._queues.values():
                        queue.put(flush, time.monotonic())
                    started = [sink for sink, queue in self._queues.items() if queue.take_at_once()]
                    if len(started) < len(self._queues):
                        self._changed.notify_all()
                    break
                self._drained.wait(0.5)
            tick()
        for sink in started:
            self._start(sink, flush)

    def wait(self, tick: Callable[[], None]) -> None:
        """Return when every flush is stored and saved. No flush may follow."""
        while True:
            with self._changed:
                if not self._ending:
                    self._ending = True
                    self._changed.notify_all()
                self._raise()
                if not self._unstored:
                    return
                self._drained.wait(0.5)
            tick()

    def check(self) -> None:
        """Raise the error of a sink that failed."""
        with self._changed:
            self._raise()

    def finished(self) -> list[tuple[Flush, Checkpoint]]:
        """(flush, saved checkpoint) of each flush stored since the last call, without changes all sinks had before."""
        with self._lock:
            finished, self._finished = self._finished, []
            return finished

    def take_sequence(self, flush: Flush) -> int | None:
        """Stream sequence of the last message of a finished flush; None if unknown or stored before."""
        with self._changed:
            return self._sequences.pop(flush.number, None)

    @property
    def waiting(self) -> int:
        """Number of flushes that at least one sink has not stored yet."""
        with self._changed:
            return len(self._unstored)

    @property
    def is_idle(self) -> bool:
        """True when all sinks that do not merge flushes have stored all flushes; False if every sink merges them."""
        return bool(self._prompt) and all(queue.is_empty for queue in self._prompt)

    @property
    def lagging_sinks(self) -> list[str]:
        """Names of the sinks that have not stored the oldest pending flush."""
        with self._changed:
            if not self._unstored:
                return []
            last = self._unstored[0].checkpoint
            return [
                sink.name for sink, at in self._stored.items() if at is None or compare_or_raise(at, last).may_be_before
            ]

    def close(self, tick: Callable[[], None]) -> None:
        """End the threads: waits for the current writes, and drops the queued flushes.

        `tick` is called about twice a second; if it raises, threads whose sink hangs are abandoned.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.5)
                if thread.is_alive():
                    tick()
        while True:
            with self._lock:
                if self._drained.wait_for(lambda: not self._started, 0.5):
                    return
            tick()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _start(self, sink: Sink, flush: Flush) -> None:
        """Store a flush that was taken at once; if the sink cannot, its thread does."""
        stored = self._stored[sink]
        is_next = stored is None or compare_or_raise(flush.start, stored).is_at_or_after
        self._count_started(1)
        if not is_next or not sink.start(flush, partial(self._ended, sink, flush)):
            self._leave_to_thread(sink, flush)
            self._count_started(-1)

    def _ended(self, sink: Sink, flush: Flush, error: Exception | None) -> None:
        """Called when the sink has stored a flush that it started, or when that failed."""
        try:
            if error is None:
                self._reached(sink, flush)
                self._finish_writing(self._queues[sink], [flush], self._note)
            else:
                log.debug("sink %s: flush %s: %s; its thread tries again", sink.name, flush.number, error)
                self._leave_to_thread(sink, flush)
        except BaseException as failure:  # noqa: BLE001 - passed to the thread of the tail, which raises it
            self._fail(failure)
        finally:
            self._count_started(-1)

    def _count_started(self, change: int) -> None:
        with self._lock:
            self._started += change
            if self._closing:
                self._drained.notify_all()

    def _leave_to_thread(self, sink: Sink, flush: Flush) -> None:
        with self._lock:
            self._queues[sink].put_back(flush)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
            self._changed.notify_all()
            self._drained.notify_all()

    def _serve(self, sink: Sink) -> None:
        """The thread of one sink."""
        queue, watched_s = self._queues[sink], time.monotonic()
        while True:
            with self._changed:
                reason = self._wait_until_due(queue)
                if self._closing or self._error is not None:
                    return
                # While a flush that was started is in flight, only the next one can be preceded by a watch.
                queue.is_reserved = time.monotonic() - watched_s >= _WATCH_S
                is_watching = queue.is_reserved and not queue.is_taken
                flushes = queue.take() if reason is not None else []
                following = queue.following()
            try:
                if is_watching:
                    sink.watch()
                    watched_s = time.monotonic()
                    queue.is_reserved = False
                if reason is None:
                    continue
                if following is not None:
                    sink.prepare(following)
                written = flushes if sink.takes_snapshots else [each.without_snapshot_rows() for each in flushes]
                self._write(sink, merge_flushes(written, reason))
                self._finish_writing(queue, flushes, self._save)
            except BaseException as error:  # noqa: BLE001 - passed to the calling thread, which raises it
                if not isinstance(error, BinlogSyncError):
                    log.exception("sink %s failed at flush %s", sink.name, [flush.number for flush in flushes])
                self._fail(error)
                return

    def _finish_writing(self, queue: SinkQueue, flushes: Sequence[Flush], save: Callable[[Checkpoint], None]) -> None:
        """The flushes that were taken are stored."""
        for flush in flushes:
            self._count_off(flush, save)
        # Only now may another thread take the next flush: it would count that one off before this one.
        with self._lock:
            queue.stored()
            if not queue.is_empty:  # the thread has not been told, if the sink had started this flush
                self._changed.notify_all()
        if not queue.merges:
            self.on_idle()

    def _wait_until_due(self, queue: SinkQueue) -> FlushReason | None:
        """Why the sink has to store flushes now; None after some seconds, or when the thread has to end."""
        ends_s = time.monotonic() + _WATCH_S
        while not self._closing and self._error is None:
            now_s = time.monotonic()
            if (reason := queue.due(now_s, self._ending)) is not None:
                return reason
            if now_s >= ends_s:
                break
            self._changed.wait(min(ends_s - now_s, queue.wait_s(now_s)))
        return None

    def _write(self, sink: Sink, flush: Flush) -> None:
        """Store the changes that the sink does not have. Flushes of one sink are stored one at a time."""
        stored = self._stored[sink]
        if stored is not None:
            # Diverging GTID sets: the sink does not have all of the flush.
            is_stored = compare_or_raise(stored, flush.checkpoint).is_at_or_after and not flush.has_snapshot_rows
            if is_stored and not _identifies(flush.checkpoint, stored):
                return
        sink.write(_rest(flush, stored))
        self._reached(sink, flush)

    def _reached(self, sink: Sink, flush: Flush) -> None:
        """The sink has stored the flush."""
        self._stored[sink] = flush.checkpoint
        if (sequence := sink.last_sequence) is not None:
            with self._lock:
                self._sequences[flush.number] = self._sequence = sequence

    def _count_off(self, flush: Flush, save: Callable[[Checkpoint], None]) -> None:
        """Count one more sink that has stored the flush; the last one saves the checkpoint of all."""
        with self._changed:
            self._left[flush.number] -= 1
            if self._left[flush.number]:
                return
            # Sinks store in order, so the flush that all have now is the oldest one.
            assert self._unstored[0] is flush
            everywhere = _oldest(self._stored.values())
        assert everywhere is not None
        save(everywhere.at_sequence(self._sequence))
        with self._changed:
            del self._left[flush.number]
            self._unstored.popleft()
            self._bytes -= flush.nbytes
            self._finished.append((_rest(flush, self._had_all), everywhere))
            self._drained.notify_all()


def _oldest(checkpoints: Iterable[Checkpoint | None]) -> Checkpoint | None:
    """The oldest checkpoint; None if one of them is None. Of diverging GTID sets, the last."""
    oldest: Checkpoint | None = None
    for checkpoint in checkpoints:
        if checkpoint is None:
            return None
        if oldest is None or compare_or_raise(checkpoint, oldest).may_be_before:
            oldest = checkpoint
    return oldest


def _identifies(checkpoint: Checkpoint, stored: Checkpoint) -> bool:
    """True when both are the same position and only the new one has a log identity."""
    return checkpoint == stored and stored.log is None and checkpoint.log is not None


def _rest(flush: Flush, stored: Checkpoint | None) -> Flush:
    """The changes that a sink with that checkpoint does not have; nearly always all of them."""
    if stored is None or compare_or_raise(flush.start, stored).is_at_or_after:
        return flush
    return flush.without_stored(stored)
