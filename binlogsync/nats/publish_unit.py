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
    """

    batch: MessageBatch
    memory: object
    checkpoint: Checkpoint

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
            subject, headers = self.head(number)
            large = {LARGE_OBJECT: name, LARGE_OBJECT_SIZE: str(self.batch.sizes[number])}
            which[number], sizes[number] = len(heads), 0
            heads.append(SubjectAndHeaders(subject, {**headers, **large}))
        return PublishUnit(MessageBatch(heads, which, self.batch.addresses, sizes), self.memory, self.checkpoint)


UnitBuilder = Callable[[], Sequence[PublishUnit]]
"""Builds the units of a part of a flush; may run in any thread, concurrently with others."""
