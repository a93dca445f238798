"""What is stored at once: one message or an atomic batch, with the checkpoint behind it."""

from __future__ import annotations

from ctypes import c_char
from dataclasses import dataclass
from typing import Literal

import numpy as np

from binlogsync.position import Checkpoint
from binlogsync.sinks.jetstream.protocol_text import MessageBatch, SubjectAndHeaders
from binlogsync.wire.envelope import LARGE_OBJECT, LARGE_OBJECT_SIZE

Format = Literal["json", "arrow"]


@dataclass(frozen=True, slots=True)
class PublishUnit:
    """Messages to store at once, and where a restart begins when they and all before them are stored.

    Attributes:
        batch: the messages; their payloads are read through their addresses.
        memory: what keeps the payloads alive.
    """

    batch: MessageBatch
    memory: object
    checkpoint: Checkpoint

    def __len__(self) -> int:
        return len(self.batch.which)

    def head(self, number: int) -> SubjectAndHeaders:
        """Subject and headers of a message."""
        return self.batch.heads[int(self.batch.which[number])]

    def payload(self, number: int) -> bytes:
        """The body of a message."""
        return bytes(self.view(number))

    def view(self, number: int) -> memoryview:
        """The body of a message, to be read while the piece is alive."""
        size = int(self.batch.sizes[number])
        return memoryview((c_char * size).from_address(int(self.batch.addresses[number])) if size else b"").cast("B")

    def larger_than(self, limit: int) -> list[int]:
        """Numbers of the messages with a body of more bytes."""
        return np.flatnonzero(self.batch.sizes > limit).tolist()

    def referring(self, names: dict[int, str]) -> PublishUnit:
        """The piece with the bodies of some messages (by number) left in the object store, under these names."""
        heads, which, sizes = list(self.batch.heads), self.batch.which.copy(), self.batch.sizes.copy()
        for number, name in names.items():
            subject, headers = self.head(number)
            large = {LARGE_OBJECT: name, LARGE_OBJECT_SIZE: str(self.batch.sizes[number])}
            which[number], sizes[number] = len(heads), 0
            heads.append(SubjectAndHeaders(subject, {**headers, **large}))
        return PublishUnit(MessageBatch(heads, which, self.batch.addresses, sizes), self.memory, self.checkpoint)


@dataclass(frozen=True, slots=True)
class PackingOptions:
    """How changes become messages.

    Attributes:
        format: "json" or "arrow".
        changes_per_message: of one table, for "json".
        max_piece_bytes: of one atomic batch.
        max_message_bytes: of a message with several changes; one change may be larger.
    """

    format: Format = "json"
    changes_per_message: int = 1
    max_unit_bytes: int = 16 << 20
    max_message_bytes: int = 900_000
