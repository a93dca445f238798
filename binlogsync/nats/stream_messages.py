"""Reads single messages of a stream, without a durable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import nats.js.errors
from nats.aio.client import Client

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec import subjects
from binlogsync.codec.tail_messages import tail_checkpoint
from binlogsync.nats.messages import DeliveredMessage, MessageLookups, StreamBatch, decode
from binlogsync.position import Checkpoint

Result = TypeVar("Result")


class StreamMessages(ABC):
    """The part of a StreamReader that looks at single messages.

    Attributes:
        source: name of the source.
        stream: name of its stream.
    """

    source: str
    stream: str
    _lookups: MessageLookups

    @abstractmethod
    def ask(self, work: Callable[[Client], Awaitable[Result]], timeout_s: float) -> Result:
        """Run a request that may be executed twice, `timeout_s` is added to the request timeout. Raises SinkError."""

    def change_at(self, sequence: int) -> ChangeBatch | None:
        """The change or changes of the message with that sequence; None when it is not in the stream, or has only a
        checkpoint."""
        message = self._get(sequence) if sequence > 0 else None
        if message is None or message[0] is None:
            return None
        found = decode([message[1]], self._lookups)
        return found[0].batch if found else None

    def changes_from(self, database: str, table: str, sequence: int) -> Sequence[StreamBatch]:
        """The changes of the first message of that table at or after the sequence; empty if there is no such
        message."""
        subject = subjects.table_subject(self.source, database, table)
        while (message := self._get(max(sequence, 1), subject)) is not None:
            if found := decode([message[1]], self._lookups):
                return found
            sequence = message[1].sequence + 1
        return []

    def find_first(
        self, database: str, table: str, is_wanted: Callable[[ChangeBatch], bool], bounds: tuple[int, int]
    ) -> int | None:
        """Sequence of the first message of that table that is wanted, by bisection; None if there is none.

        The bounds are the first sequence to search, and the one after the last. All messages after a wanted one must
        be wanted too. `is_wanted` gets the last changes of a message.
        """
        first, (low, high) = None, bounds
        while low < high:
            middle = (low + high) // 2
            found = self.changes_from(database, table, middle)
            if not found or found[-1].last_sequence >= high:
                high = middle
            elif is_wanted(found[-1].batch):
                first, high = found[-1].last_sequence, middle
            else:
                low = found[-1].last_sequence + 1
        return first

    def checkpoint_at(self, sequence: int) -> Checkpoint | None:
        """The checkpoint in the message with that sequence; None if it has none, or is not in the stream.

        A copy of a message that was stored at another sequence counts as one without checkpoint.
        """
        message = self._get(sequence) if sequence > 0 else None
        return None if message is None else tail_checkpoint(message[1].headers, sequence)

    def _get(
        self, sequence: int, subject: str | None = None
    ) -> tuple[tuple[str, str, str] | None, DeliveredMessage] | None:
        """The message with that sequence, or the first of a subject at or after it, with the names in its subject."""

        async def get(client: Client) -> tuple[tuple[str, str, str] | None, DeliveredMessage] | None:
            try:
                raw = await client.jetstream().get_msg(self.stream, sequence, subject, next=subject is not None)
            except nats.js.errors.NotFoundError:
                return None
            message = DeliveredMessage(int(raw.seq or sequence), raw.headers or {}, raw.data or b"")
            return subjects.parse_names(raw.subject or ""), message

        return self.ask(get, 0.0)
