"""Messages of one subscription as nats-server sent them: protocol text, and arrays of numbers that describe it.

A block has no Python object for each message; `message` and `messages` make them for the few that need one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from binlogsync.nats.frame_kernel import (
    BODY,
    BODY_END,
    CONTENT,
    FIELDS,
    FINGERPRINT,
    FLAGS,
    FRAME,
    FRAME_END,
    HEADERS,
    NEW,
    REPLY,
    REPLY_END,
    SEQUENCE,
    SUBJECT,
    SUBJECT_END,
    Numbers,
)

_VERSION = len("NATS/1.0")
_IS_OFFSET = np.zeros(FIELDS, np.int64)
"""1 for the fields of a message that are offsets into its text, else 0."""
_IS_OFFSET[[*range(SEQUENCE), CONTENT, CONTENT + 1, FINGERPRINT, FINGERPRINT + 1]] = 1


class RawMessage(NamedTuple):
    """One message; the header "Status" contains the server's status reply to a request."""

    subject: str
    reply: str
    headers: dict[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class MessageBlock:
    """Messages in order; `frames` has a row for each: offsets into `text`, and other numbers (frame_kernel.py)."""

    text: memoryview
    frames: Numbers

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> int:
        """Bytes of all messages, with their headers."""
        return int((self.frames[:, FRAME_END] - self.frames[:, FRAME]).sum())

    def column(self, field: int) -> Numbers:
        """One field of all messages, as a contiguous array."""
        return np.ascontiguousarray(self.frames[:, field])

    def rows_without(self, flag: int) -> list[int]:
        """Row indexes of the messages without that flag."""
        found = self.frames[:, FLAGS] & flag
        return [] if found.all() else np.flatnonzero(found == 0).tolist()

    def slice(self, start: int, stop: int) -> MessageBlock:
        """The messages start..stop-1, sharing memory."""
        return MessageBlock(self.text, self.frames[start:stop])

    def select(self, mask: npt.NDArray[np.bool_]) -> MessageBlock:
        """The messages where `mask` is True. A message after an omitted one starts a new group."""
        if mask.all():
            return self
        frames = self.frames.copy()
        frames[1:, FLAGS] |= np.where(mask[:-1], 0, NEW)
        return MessageBlock(self.text, frames[mask])

    def group_starts(self) -> list[int]:
        """Start indexes of groups: consecutive messages that are not plain, or that are plain and have the same content
        type and fingerprint.
        """
        if len(self) < 2:
            return [0] * len(self)
        return [0, *(np.flatnonzero(self.frames[1:, FLAGS] & NEW) + 1).tolist()]

    def text_of(self, row: int, field: int) -> str:
        """The text from a field to the next one, for example from REPLY to REPLY_END."""
        start, stop = self.frames[row, field : field + 2].tolist()
        return str(self.text[start:stop], errors="replace")

    def bodies(self) -> list[bytes]:
        """The body of each message."""
        spans = zip(self.frames[:, BODY].tolist(), self.frames[:, BODY_END].tolist(), strict=True)
        return [bytes(self.text[start:stop]) for start, stop in spans]

    def message(self, row: int) -> RawMessage:
        """One message as Python objects."""
        subject, reply = self.text_of(row, SUBJECT), self.text_of(row, REPLY)
        body, stop = self.frames[row, BODY : BODY_END + 1].tolist()
        return RawMessage(subject, reply, self.headers(row), bytes(self.text[body:stop]))

    def headers(self, row: int) -> dict[str, str]:
        """The headers of one message."""
        text = self.text_of(row, HEADERS)
        return _headers(text) if text else {}

    def messages(self) -> list[RawMessage]:
        """All messages as Python objects."""
        return [self.message(row) for row in range(len(self))]

    @classmethod
    def empty(cls) -> MessageBlock:
        """A block without messages."""
        return cls(memoryview(b""), np.empty((0, FIELDS), np.int64))

    @classmethod
    def of(cls, message: RawMessage) -> MessageBlock:
        """A block of one message that is given as Python objects."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in message.headers.items())
        parts = [message.subject.encode(), message.reply.encode(), f"NATS/1.0\r\n{lines}\r\n".encode(), message.data]
        ends = np.cumsum([len(part) for part in parts])
        frames = np.zeros((1, FIELDS), np.int64)
        frames[0, [SUBJECT_END, REPLY_END, BODY, BODY_END]] = ends
        frames[0, [REPLY, HEADERS, FRAME_END]] = ends[[0, 1, 3]]
        return cls(memoryview(b"".join(parts)), frames)

    @classmethod
    def join(cls, blocks: Sequence[MessageBlock]) -> MessageBlock:
        """The messages of all blocks; their texts are copied, unless all blocks share one."""
        if len(blocks) < 2:
            return blocks[0] if blocks else cls.empty()
        if all(block.text is blocks[0].text for block in blocks):
            return cls(blocks[0].text, np.concatenate([block.frames for block in blocks]))
        blocks = [block for block in blocks if len(block)]
        if not blocks:
            return cls.empty()
        frames = np.concatenate([block.frames for block in blocks])
        texts, shifts, row, size = [], [], 0, 0
        for block in blocks:
            first, last = int(block.frames[0, FRAME]), int(block.frames[-1, FRAME_END])
            texts.append(block.text[first:last])
            shifts.append(size - first)
            frames[row, FLAGS] |= NEW
            row, size = row + len(block), size + last - first
        frames += np.repeat(shifts, [len(block) for block in blocks])[:, None] * _IS_OFFSET
        return cls(memoryview(b"".join(texts)), frames)


def _headers(text: str) -> dict[str, str]:
    """The header lines, and the status in the first line."""
    found = {}
    first, *lines = text.split("\r\n")
    if status := first[_VERSION:].strip():
        found["Status"] = status.partition(" ")[0]
        found["Description"] = status.partition(" ")[2]
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value.strip()
    return found
