"""Takes the messages of some subscriptions out of the protocol text that a connection receives. Pure.

A kernel finds them, so nats-py parses only what remains: other subscriptions, replies, PING and errors.
"""

from __future__ import annotations

from collections.abc import Callable

import nats.errors
import numpy as np

from binlogsync.nats.frame_kernel import (
    BODY,
    BODY_END,
    FIELDS,
    FRAME,
    FRAME_END,
    HEADERS,
    LARGEST_MESSAGE,
    LONGEST_LINE,
    REPLY,
    REPLY_END,
    SIZE_DIGITS,
    SUBJECT,
    SUBJECT_END,
    find_frames,
    find_line_end,
)
from binlogsync.nats.message_block import MessageBlock

_MOST_FRAMES = 8192
Taker = Callable[[MessageBlock], None]


class FrameSplitter:
    """Takes the messages of its subscriptions out of received text; the rest is passed on, one operation at a time.

    So each message takes one of the two paths, and their order is kept.
    """

    def __init__(self) -> None:
        self._takers: dict[int, Taker] = {}
        self._wanted = np.empty(0, np.int64)
        self._frames = np.empty((_MOST_FRAMES, FIELDS), np.int64)
        self.missing = 0  # bytes that complete the operation with which `take` has ended, as far as is known

    def add(self, subscription: int, take: Taker) -> None:
        """Pass the messages of a subscription to `take`."""
        self._takers[subscription] = take
        self._wanted = np.array(list(self._takers), np.int64)

    def remove(self, subscription: int) -> None:
        """Pass on the messages of a subscription."""
        self._takers.pop(subscription, None)
        self._wanted = np.array(list(self._takers), np.int64)

    def take(self, text: memoryview, at: int, end: int) -> tuple[int, int]:
        """Take messages from text[at:end]; returns (where they end, where the operation after them ends, to be passed
        on). The second number is the first if that operation is not complete, and -1 if nats-server sends no such text.
        """
        self.missing = 0
        while at < end:
            count, subscription = find_frames(text, at, end, self._wanted, self._frames)
            if count:
                frames = self._frames[:count].copy()
                at = int(frames[-1, FRAME_END])
                self._takers[subscription](MessageBlock(text, frames))
                continue
            try:
                words, stop = self._next_operation(text, at, end)
            except nats.errors.ProtocolError:
                return at, -1
            take = self._taker(words)
            if stop == at or take is None:
                return at, stop
            begun, at = at, stop
            take(_block(text, begun, stop, words))
        return at, at

    def _next_operation(self, text: memoryview, at: int, end: int) -> tuple[list[bytes], int]:
        """The words of the first line of a message ([] for another operation) and where it ends; `at` if it is not
        complete.
        """
        line_end = find_line_end(text, at, min(end, at + LONGEST_LINE))
        if line_end < 0:
            if end - at >= LONGEST_LINE:
                raise nats.errors.ProtocolError
            return [], at
        line = bytes(text[at:line_end])
        words = line.split() if line.startswith((b"MSG ", b"HMSG ")) else []
        stop = line_end + 4 + _size(words) if words else line_end + 2
        self.missing = max(stop - end, 0)
        return words, at if self.missing else stop

    def _taker(self, words: list[bytes]) -> Taker | None:
        """Who takes the message whose first line has these words."""
        name = words[2] if words else b""
        is_number = name.isdigit() and len(name) <= SIZE_DIGITS and not name.startswith(b"0")
        return self._takers.get(int(name)) if is_number else None


def _size(words: list[bytes]) -> int:
    """Bytes of header and data after the first line of a message; `words` are the words of that line."""
    with_header = words[0] == b"HMSG"
    sizes = words[-2:] if with_header else words[-1:]
    if len(words) not in ((5, 6) if with_header else (4, 5)) or not all(
        word.isdigit() and len(word) <= SIZE_DIGITS for word in sizes
    ):
        raise nats.errors.ProtocolError
    if int(sizes[0]) > int(sizes[-1]) or int(sizes[-1]) > LARGEST_MESSAGE:
        raise nats.errors.ProtocolError
    return int(sizes[-1])


def _block(text: memoryview, at: int, stop: int, words: list[bytes]) -> MessageBlock:
    """The message at..stop whose first line has these words, but is not written as the kernel expects it."""
    frames = np.zeros((1, FIELDS), np.int64)
    start = stop - 2 - int(words[-1])
    line = bytes(text[at:start])
    places, end = list[int](), 0
    for word in words:
        places.append(at + line.index(word, end))
        end = places[-1] - at + len(word)
    has_headers, size = words[0] == b"HMSG", int(words[-1])
    frames[0, [FRAME, SUBJECT, SUBJECT_END]] = at, places[1], places[1] + len(words[1])
    frames[0, [HEADERS, BODY]] = start, start + (int(words[-2]) if has_headers else 0)
    frames[0, [BODY_END, FRAME_END]] = start + size, start + size + 2
    if len(words) == (6 if has_headers else 5):
        frames[0, [REPLY, REPLY_END]] = places[3], places[3] + len(words[3])
    return MessageBlock(text, frames)
