"""The reading side of a source's stream: messages out of JetStream, decoded into ChangeBatches with their stream sequences.

Every call blocks and has a deadline. A durable belongs to one table of one client, delivers in stream order, and is acked
as a whole (AckPolicy.ALL): an ack says that everything up to it is done. Progress is the caller's own business: what it
says to `ensure_durable` is where delivery begins, whatever the durable said before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.nats_client import NatsOptions


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """Changes of one table under one schema and one set of columns, in stream order.

    Attributes:
        batch: the changes. Its `seq` column holds the stream sequence as well (the reader's own numbers are not on the wire).
        sequences: uint64 array, the stream sequence of the message that held each change; repeats where a message holds several.
        reply: what `StreamReader.ack` answers to: the last message that is wholly in this batch or an earlier one of the same
            fetch; None when there is none.
    """

    batch: ChangeBatch
    sequences: pa.UInt64Array
    reply: str | None

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def last_sequence(self) -> int:
        """Stream sequence of the last change."""
        return int(self.sequences[-1].as_py())


@dataclass(frozen=True, slots=True)
class Pending:
    """How far a durable is.

    Attributes:
        num_pending: messages of its table in the stream not yet delivered.
        num_ack_pending: delivered, not acked.
        last_delivered_stream_seq: of the last message delivered; one less than the start before the first.
    """

    num_pending: int
    num_ack_pending: int
    last_delivered_stream_seq: int


class StreamReader:
    """One connection that reads the stream of one source. Not for use by several threads at once."""

    def __init__(self, options: NatsOptions, source: str) -> None:
        raise NotImplementedError

    def open(self) -> StreamReader:
        """Connect and look at the stream; returns itself.

        Raises SinkError when NATS cannot be reached or refuses, WireError when the source has no stream yet.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the connection; never raises."""
        raise NotImplementedError

    def __enter__(self) -> StreamReader:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure_durable(self, durable: str, database: str, table: str, start_sequence: int) -> None:
        """Make the durable of that table deliver from `start_sequence` on (the first message at or after it).

        Kept as it is when its next undelivered or unacked message is the same one; else deleted and made anew.
        """
        raise NotImplementedError

    def fetch(self, durable: str, max_messages: int = 1000, timeout_s: float = 1.0) -> Sequence[StreamBatch]:
        """The next messages, in order, at least one when there is one within `timeout_s`; an empty list otherwise.

        Raises WireError for a message that cannot be read, SinkError when the connection is lost for too long.
        """
        raise NotImplementedError

    def ack(self, batch: StreamBatch) -> None:
        """Everything of the durable up to the end of `batch` is done; waits until the server has it. Nothing when reply is None."""
        raise NotImplementedError

    def pending(self, durable: str) -> Pending | None:
        """How far the durable is; None when there is no such durable."""
        raise NotImplementedError

    def delete_durable(self, durable: str) -> None:
        """Remove it; nothing when there is none."""
        raise NotImplementedError

    def first_sequence(self) -> int:
        """Of the oldest message that the stream still holds; last_sequence() + 1 when it holds none."""
        raise NotImplementedError

    def last_sequence(self) -> int:
        """Of the newest message, checkpoint messages counted; 0 when there was none ever."""
        raise NotImplementedError

    def change_at(self, sequence: int) -> ChangeBatch | None:
        """The change (or changes) of the message with that sequence; None when the stream does not hold it, or it holds only a
        checkpoint."""
        raise NotImplementedError

    def tables(self) -> Mapping[tuple[str, str], int]:
        """(database, table) -> messages held, for every table that the stream holds changes of."""
        raise NotImplementedError
