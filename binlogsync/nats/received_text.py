"""How received text comes to a FrameSplitter: before nats-py's parser, or straight from the socket.

`ParserHook` works on every connection, also a WebSocket. `SocketTap` saves several copies of each byte, and is used on
TCP connections, with or without TLS. Through it, any thread can write to a connection without TLS.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nats.errors
from nats.protocol.parser import AWAITING_CONTROL_LINE

from binlogsync.nats.frame_splitter import FrameSplitter
from binlogsync.nats.recycled_buffer import LEAST_FREE, RecycledBuffer

_REST_S = 0.01


class ParserHook:
    """Replaces `parse` of a connection's parser, which gets what the splitter leaves."""

    def __init__(self, parser: Any, splitter: FrameSplitter) -> None:
        self._splitter = splitter
        self._parser = parser
        self._parse: Callable[[bytes], Awaitable[None]] = parser.parse
        self._kept: list[bytes] = []
        self._missing = 0
        self._is_parsing = False
        self._next: Callable[[], None] | None = None
        parser.parse = self.parse

    def when_idle(self, action: Callable[[], None]) -> None:
        """Call `action` as soon as neither this object nor the parser has a part of an operation."""
        self._next = action
        self._act()

    def _act(self) -> None:
        is_idle = not self._is_parsing and not self._kept and self._is_parser_idle()
        if self._next is not None and is_idle:
            action, self._next = self._next, None
            action()

    def _is_parser_idle(self) -> bool:
        return not self._parser.buf and self._parser.state == AWAITING_CONTROL_LINE

    async def parse(self, data: bytes = b"") -> None:
        """Replaces the parser's method; an operation that the parser has started is finished by the parser."""
        self._is_parsing = True
        try:
            if self._is_parser_idle():
                await self._split(data)
            else:
                await self._parse(data)
        finally:
            self._is_parsing = False
            self._act()

    async def _split(self, data: bytes) -> None:
        self._kept.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        text, at = memoryview(b"".join(self._kept)), 0
        self._kept, self._missing = [], 0
        while at < len(text):
            begun, at = self._splitter.take(text, at, len(text))
            if at < 0:
                raise nats.errors.ProtocolError
            if begun == at:
                self._kept, self._missing = [bytes(text[at:])], self._splitter.missing
                return
            await self._parse(bytes(text[begun:at]))


class SocketTap(asyncio.BufferedProtocol):
    """Replaces the protocol of a connection's transport: receives into own buffers, and passes on what the splitter
    leaves to the reader of the former protocol, which still gets all events of the connection.
    """

    def __init__(self, transport: Any, reader: asyncio.StreamReader, splitter: FrameSplitter, received: bytes) -> None:
        """`received` was received before, and not read."""
        self._transport = transport
        self._protocol: Any = transport.get_protocol()
        self._reader = reader
        self._splitter = splitter
        self._buffer = RecycledBuffer(received)
        self._at = 0  # where the first operation begins that is not complete
        self._missing = 0  # bytes that complete it, as far as is known
        self._loop = asyncio.get_running_loop()
        self._unsent = b""
        self._writers = 0  # of the event loop that write in several steps
        self._is_lost = False
        self._lock = threading.Lock()  # held while something is written, and when the connection ends

    def begin(self) -> None:
        """Replace the protocol, and process what was received before."""
        self._transport.set_protocol(self)
        self.buffer_updated(0)

    @property
    def can_write_now(self) -> bool:
        """True unless the connection is lost, is encrypted, or has something to write before."""
        if self._is_lost or self._unsent or self._writers or self._transport.is_closing():
            return False
        return not self._transport.get_write_buffer_size() and self._transport.get_extra_info("ssl_object") is None

    def write_now(self, text: bytes) -> bool:
        """Write complete operations from any thread; False if that is not possible now, and nothing was written.

        What the socket does not accept, the event loop writes, before anything else. The lock keeps the socket open.
        """
        with self._lock:
            if not self.can_write_now:
                return False
            try:
                sent = os.write(self._transport.get_extra_info("socket").fileno(), text)
            except OSError:  # full, or broken: which the event loop detects
                return False
            self._unsent = text[sent:]
        if self._unsent:
            self._loop.call_soon_threadsafe(self._write_rest)
        return True

    def _write_rest(self) -> None:
        with self.writing():
            return

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A block of the event loop that writes, possibly in several steps: `write_now` is not possible meanwhile."""
        with self._lock:
            self._writers += 1
            rest, self._unsent = self._unsent, b""
        try:
            if rest:
                self._transport.write(rest)
            yield
        finally:
            self._end_writing()

    def _end_writing(self) -> None:
        """End a block of `writing`, once all is written: the loop takes a rest out of its buffer while it writes it."""
        if self._transport.get_write_buffer_size() and not self._is_lost:
            self._loop.call_later(_REST_S, self._end_writing)
            return
        with self._lock:
            self._writers -= 1

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to receive."""
        return self._buffer.room

    def buffer_updated(self, nbytes: int) -> None:
        """Process what has been received."""
        buffer = self._buffer
        buffer.filled += nbytes
        self._missing -= nbytes
        if self._missing <= 0:
            self._missing = 0
            while self._at < buffer.filled:
                begun, stop = self._splitter.take(buffer.text, self._at, buffer.filled)
                self._at = stop if stop >= 0 else buffer.filled  # the parser finds the same error in the rest
                if begun == self._at:
                    self._missing = self._splitter.missing
                    break
                self._reader.feed_data(bytes(buffer.text[begun : self._at]))
        room = len(buffer.text) - buffer.filled
        if room < LEAST_FREE or room < self._missing:
            left = buffer.text[self._at : buffer.filled]
            self._buffer, self._at = RecycledBuffer(left, len(left) + self._missing), 0

    def eof_received(self) -> bool:
        """The server has closed the connection; a TLS connection cannot stay half open."""
        may_stay_open: bool = self._protocol.eof_received()
        return may_stay_open and self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; the transport closes the socket afterwards."""
        with self._lock:
            self._is_lost = True
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """The transport's write buffer is full."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The transport's write buffer has room again."""
        self._protocol.resume_writing()
