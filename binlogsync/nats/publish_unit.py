"""A publish unit: one message or an atomic batch, stored atomically, with the checkpoint after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_char
from dataclasses import dataclass

import numpy as np

from binlogsync.codec.envelope import LARGE_OBJECT, LARGE_OBJECT_SIZE
from binlogsync.nats.protocol_text import MessageBatch, SubjectAndHeaders
from binlogsync.position import Checkpoint


@dataclass(frozen=True, slots=True)
class PublishUnit:
    """Messages to store atomically.

    Attributes:
        batch: the messages; their payloads are read by address.
        memory: the objects that own the memory of the payloads.
        checkpoint: where a restart resumes once these and all earlier messages are stored.
        snapshot: progress of an incremental snapshot then; "" without one.
    """

    batch: MessageBatch
    memory: object
    checkpoint: Checkpoint
    snapshot: str = ""

    def __len__(self) -> int:
        return len(self.batch.which)

    @property
    def nbytes(self) -> int:
        """Size of all payloads."""
        return int(self.batch.sizes.sum())

    def head(self, number: int) -> SubjectAndHeaders:
        """Subject and headers of a message."""
        return self.batch.heads[int(self.batch.which[number])]

    def payload(self, number: int) -> bytes:
        """The body of a message."""
        return bytes(self.view(number))

    def view(self, number: int) -> memoryview:
        """The body of a message, valid while the unit exists."""
        size = int(self.batch.sizes[number])
        return memoryview((c_char * size).from_address(int(self.batch.addresses[number])) if size else b"").cast("B")

    def larger_than(self, limit: int) -> list[int]:
        """Numbers of the messages whose body has more than `limit` bytes."""
        return np.flatnonzero(self.batch.sizes > limit).tolist()

    def referring(self, names: dict[int, str]) -> PublishUnit:
        """The unit with the bodies of some messages (by number) replaced by names in the object store."""
        heads, which, sizes = list(self.batch.heads), self.batch.which.copy(), self.batch.sizes.copy()
        for number, name in names.items():
            heads.append(_large_head(self.head(number), name, int(self.batch.sizes[number])))
            which[number], sizes[number] = len(heads) - 1, 0
        batch = MessageBatch(heads, which, self.batch.addresses, sizes)
        return PublishUnit(batch, self.memory, self.checkpoint, self.snapshot)


class SingleUnit(PublishUnit):
    """One message, from Python objects: for few messages that takes a fraction of the time."""

    __slots__ = ("_body", "_head")

    _head: SubjectAndHeaders
    _body: bytes

    def __init__(self, head: SubjectAndHeaders, body: bytes, checkpoint: Checkpoint, snapshot: str = "") -> None:
        values = {"_head": head, "_body": body, "memory": body, "checkpoint": checkpoint, "snapshot": snapshot}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return 1

    @property
    def nbytes(self) -> int:
        """Size of the payload."""
        return len(self._body)

    def head(self, number: int) -> SubjectAndHeaders:
        """Subject and headers."""
        return self._head

    def view(self, number: int) -> memoryview:
        """The body."""
        return memoryview(self._body)

    def larger_than(self, limit: int) -> list[int]:
        """[0] if the body has more than `limit` bytes."""
        return [0] if len(self._body) > limit else []

    def referring(self, names: dict[int, str]) -> PublishUnit:
        """See PublishUnit."""
        head = _large_head(self._head, names[0], len(self._body))
        return SingleUnit(head, b"", self.checkpoint, self.snapshot)


def _large_head(head: SubjectAndHeaders, name: str, size: int) -> SubjectAndHeaders:
    """The head of a message whose body of that size is in the object store."""
    return SubjectAndHeaders(head.subject, {**head.headers, LARGE_OBJECT: name, LARGE_OBJECT_SIZE: str(size)})


UnitBuilder = Callable[[], Sequence[PublishUnit]]
"""Builds the units of a part of a flush; may run in any thread, concurrently with others."""
