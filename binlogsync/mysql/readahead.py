"""Reads the next buffer in a thread while the previous one is decoded.

What the socket gave is handed over as soon as the consumer asks for it; while the consumer is busy the thread fills
a buffer up to its size, and then one more waits: three buffers are alive at most, and kept for the next reader. Each
leaves room in front, so that the decoder only copies the unfinished end of the previous block there.

A consumer that wants each change at once reads the socket itself, while no more arrives than it can process: to wake
another thread for every few bytes takes longer than to read them.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from binlogsync.errors import BinlogSyncError, SourceError
from binlogsync.mysql.dump import FIRST_BYTES_S, BinlogDump, silence_message

BUFFER_BYTES = 8 * 2**20
HEADROOM = 64 * 2**10
Pace = Literal["at_once", "linger", "collect"]
_LINGER_MS: dict[Pace, int] = {"at_once": 0, "linger": 1, "collect": 1000}  # for bytes that are on their way
_LINGER_LIMIT_S = 0.02
_MANY_BYTES = 256 * 2**10  # decoding so many costs much less than decoding each transaction of them
_COLLECT_MS = 5.0
_KEPT = 3

SPARE: deque[npt.NDArray[np.uint8]] = deque(maxlen=_KEPT)
"""Buffers of an ended ReadAhead: the next finds memory in them that the system has mapped and cleared already."""


@dataclass(frozen=True, slots=True, eq=False)
class DumpBlock:
    """buffer[start:end] are the new bytes; buffer[:start] is free for the end of the previous chunk."""

    buffer: npt.NDArray[np.uint8]
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(slots=True)
class _OpenBlock:
    """A buffer that is being filled up to `end`, since `begun` (0: it is empty); `may_read`: a read may give more."""

    buffer: npt.NDArray[np.uint8]
    end: int
    begun: float = 0.0
    may_read: bool = True


class ReadAhead:
    """A context manager around an open BinlogDump: the thread runs inside the block; the end of the block ends the
    dump.
    """

    def __init__(
        self,
        dump: BinlogDump,
        buffer_bytes: int = BUFFER_BYTES,
        headroom: int = HEADROOM,
        idle_s: float | None = None,
        *,
        reads_here: bool = False,
    ) -> None:
        """`idle_s` seconds without any byte are an error; None means three heartbeats.

        With `reads_here`, `next` reads in the calling thread while few bytes arrive.
        """
        self.ended = False
        self._dump = dump
        self._size = headroom + buffer_bytes
        self._headroom = headroom
        self._idle_s = dump.silence_s if idle_s is None else idle_s
        self._ready: deque[DumpBlock] = deque()
        self._free: list[npt.NDArray[np.uint8]] = []
        self._error: BaseException | None = None
        self._waiting = self._woken = self._hastened = False
        self._has_bytes = False  # in a buffer that is being filled
        self._pace: Pace = "linger"
        self._stopping = False
        self._reads_here = reads_here
        self._is_parked = False  # the thread waits while `next` reads
        self._open: _OpenBlock | None = None  # what `next` has read and not returned yet
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="binlog-read-ahead", daemon=True)
        self._wake_read, self._wake_write = -1, -1
        self._poll, self._wake_poll = select.poll(), select.poll()
        self._heard_at = 0.0

    def __enter__(self) -> ReadAhead:
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._dump.never_wait()
        self._poll.register(self._dump.fileno(), select.POLLIN)
        for poll in (self._poll, self._wake_poll):
            poll.register(self._wake_read, select.POLLIN)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._wake()
        self._dump.interrupt()
        self._thread.join()
        if self._size == HEADROOM + BUFFER_BYTES:
            SPARE.extend(self._free if self._open is None else (*self._free, self._open.buffer))
            self._free, self._open = [], None
        self._dump.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def next(self, timeout_s: float, pace: Pace = "linger") -> DumpBlock | None:
        """The next bytes; None when there are none for `timeout_s`, after `wake`, or when a non-blocking dump has
        `ended`. The pace "at_once" returns all that has arrived, "linger" gives further bytes a moment to
        arrive, and "collect" waits for many bytes, or for another call.

        Raises, once the bytes before it are handed over, SourceError when the connection broke or went silent.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._waiting, self._pace = True, "at_once" if self._hastened else pace
            if not self._ready and self._has_bytes and not self._is_parked:
                self._wake()
        try:
            return self._take_ready(deadline) or (self._read_here(deadline) if self._is_parked else None)
        finally:
            # A wake-up that is lost here has ended this call, which is all that it was for.
            self._waiting = self._woken = self._hastened = False

    def _take_ready(self, deadline: float) -> DumpBlock | None:
        """What the thread has read; None also if it is parked."""
        with self._changed:
            while not self._ready and self._error is None and not self.ended and not self._is_parked:
                if self._woken or not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
            if self._ready:
                chunk = self._ready.popleft()
                self._changed.notify_all()
                return chunk
            if self._error is not None:
                raise self._error
            return None

    def wake(self) -> None:
        """End the current call of `next`, or the next one, unless bytes are ready. Any thread may call it."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()
            if self._waiting and self._is_parked:
                self._wake()

    def wait(self, timeout_s: float) -> None:
        """Wait for `wake` or `timeout_s`, and take no bytes."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken, timeout_s)
            self._woken = False

    def hasten(self) -> None:
        """Change the pace of the current call of `next`, or of the next one, to "at_once". Any thread may call it."""
        with self._changed:
            self._hastened, self._pace = True, "at_once"
            if self._waiting and self._has_bytes:
                self._wake()

    def recycle(self, chunk: DumpBlock) -> None:
        """Return the buffer for reuse; it must no longer be accessed. Optional, but faster."""
        with self._changed:
            if len(self._free) < _KEPT and len(chunk.buffer) == self._size:
                self._free.append(chunk.buffer)

    def _run(self) -> None:
        self._heard_at = time.monotonic()
        try:
            while (chunk := self._fill(self._take_buffer())) is not None:
                self._hand_over(chunk)
                if self._reads_here and len(chunk) < _MANY_BYTES:
                    self._park()
        except (BinlogSyncError, OSError, MemoryError) as error:
            self._finish(error)
        else:
            self._finish(self._closed_error())

    def _closed_error(self) -> SourceError | None:
        """The error after the last byte; None if that was expected."""
        closed = f"{self._dump.config.address} closed the binlog dump; reconnect"
        return SourceError(closed) if self._dump.blocking and not self._stopping else None

    def _park(self) -> None:
        """Wait while `next` reads."""
        with self._changed:
            self._is_parked = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_parked or self._stopping)

    def _finish(self, error: BaseException | None) -> None:
        with self._changed:
            self._error = error
            self.ended = True
            self._changed.notify_all()

    def _take_buffer(self) -> npt.NDArray[np.uint8]:
        with self._changed:
            if self._free:
                return self._free.pop()
        try:
            spare = SPARE.pop()
        except IndexError:
            return np.empty(self._size, np.uint8)
        return spare if len(spare) == self._size else np.empty(self._size, np.uint8)

    def _hand_over(self, chunk: DumpBlock) -> None:
        """Waits while another chunk is still not taken."""
        with self._changed:
            self._changed.wait_for(lambda: not self._ready or self._stopping)
            self._ready.append(chunk)
            self._changed.notify_all()
        self._heard_at = time.monotonic()  # the socket was not read meanwhile

    def _fill(self, buffer: npt.NDArray[np.uint8]) -> DumpBlock | None:
        """Reads until the buffer is full, or the consumer waits and has something to get; None at the end."""
        view, end, begun = buffer.data, self._headroom, 0.0
        self._has_bytes = False
        while not self._stopping and end < len(buffer):
            count = self._dump.read_now(view[end:])
            if count == 0:
                break
            if count < 0:
                linger = end > self._headroom and self._waiting
                if not self._wait_for_bytes(linger) and linger:
                    break
                continue
            self._heard_at = time.monotonic()
            begun = begun or self._heard_at
            end += count
            self._has_bytes = True  # before `_waiting` is read: `next` sets that, and then reads this
            if self._waiting and self._has_enough(end - self._headroom, self._heard_at - begun):
                break
        return DumpBlock(buffer, self._headroom, end) if end > self._headroom else None

    def _read_here(self, deadline: float) -> DumpBlock | None:
        """`next` while the thread is parked; what is read and not returned is returned by a later call."""
        if self._open is None:
            self._open, self._has_bytes = _OpenBlock(self._take_buffer(), self._headroom), False
        block = self._open
        block.may_read = True  # also without time to wait
        try:
            while block.may_read or self._wait_here(block, deadline):
                count = self._dump.read_now(block.buffer.data[block.end :])
                block.may_read = count > 0
                if count == 0:
                    self._finish(self._closed_error())
                    break
                if count > 0:
                    self._heard_at = time.monotonic()
                    block.begun = block.begun or self._heard_at
                    block.end += count
                    self._has_bytes = True  # before `_pace` is read: `hasten` sets that, and then reads this
                if self._is_enough(block):
                    break
            else:
                return None
        except (BinlogSyncError, OSError, MemoryError) as error:
            self._finish(error)
        size, self._open = block.end - self._headroom, None
        if size >= _MANY_BYTES:
            with self._changed:
                self._is_parked = False
                self._changed.notify_all()
        if not size:
            return self._take_ready(deadline)  # the end
        return DumpBlock(block.buffer, self._headroom, block.end)

    def _is_enough(self, block: _OpenBlock) -> bool:
        """Whether `next` returns what has been read."""
        size, now = block.end - self._headroom, time.monotonic()
        if not size or block.end == len(block.buffer):
            return bool(size)
        is_over = not block.may_read and now - self._heard_at >= _LINGER_MS[self._pace] / 1000
        return is_over or self._has_enough(size, now - block.begun)

    def _wait_here(self, block: _OpenBlock, deadline: float) -> bool:
        """True when there may be bytes, or enough time has passed; False after `wake`, or at the deadline."""
        size = block.end - self._headroom
        while not self._woken:
            if (left_s := deadline - time.monotonic()) <= 0:
                return False
            poll, most_ms = self._poll, left_s * 1000
            if size and self._pace == "collect":  # further bytes are no reason to wake up
                poll, most_ms = self._wake_poll, min(most_ms, _COLLECT_MS)
            elif size:
                most_ms = min(most_ms, _LINGER_MS["linger"])
            events = poll.poll(most_ms)
            woken = [fd for fd, _ in events]
            if self._wake_read in woken:
                os.read(self._wake_read, 4096)
            if size or len(woken) > (self._wake_read in woken):
                return not self._woken
            self._check_silence()
        return False

    def _check_silence(self) -> None:
        """Raise SourceError if nothing was heard for too long."""
        if time.monotonic() >= self._heard_at + self._allowed_s:
            raise SourceError(silence_message(self._dump.config, self._allowed_s))

    @property
    def _allowed_s(self) -> float:
        """Seconds without any byte that are no error."""
        return self._idle_s if self._dump.heard else max(FIRST_BYTES_S, self._idle_s)

    def _has_enough(self, size: int, seconds: float) -> bool:
        """Whether bytes that have been read for so long are handed over although more may follow."""
        if self._pace == "collect":
            return size >= _MANY_BYTES
        return self._pace == "at_once" or seconds > _LINGER_LIMIT_S

    def _wait_for_bytes(self, linger: bool) -> bool:
        """True when a read gives bytes or the end; False when the consumer woke us, or a linger is over."""
        left_s = max(0.0, self._heard_at + self._allowed_s - time.monotonic())
        events = self._poll.poll(_LINGER_MS[self._pace] if linger else left_s * 1000)
        if not events and not linger:
            raise SourceError(silence_message(self._dump.config, self._allowed_s))
        woken = [fd for fd, _ in events]
        if self._wake_read in woken:
            os.read(self._wake_read, 4096)
        return len(woken) > (self._wake_read in woken)

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already
