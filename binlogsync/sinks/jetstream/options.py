"""Options of the JetStream sink."""

from __future__ import annotations

from dataclasses import dataclass

from binlogsync.errors import ConfigError
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.stream import Compression, StreamSpec
from binlogsync.sinks.jetstream.packing import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamOptions(NatsOptions):
    """Connection options (see NatsOptions), and options for creating and writing the stream.

    Attributes:
        replicas: number of replicas of the stream and its buckets, at their creation.
        max_age_s: how long the stream retains changes, at its creation; 0 for no limit.
        max_bytes: size limit of the stream, at its creation; None for no limit. The oldest changes are dropped first.
        compression: of the stream on the disk of nats-server, at its creation: "none" or "s2".
        format: "json" (Debezium's envelopes) or "arrow" (Arrow IPC streams).
        changes_per_message: above 1, a message has up to so many envelopes of one table, one on each line (format
            "json").
        max_batch_bytes: size limit of one atomic batch; at most two batches, or a few single messages, are in flight.
    """

    replicas: int = 1
    max_age_s: float = 7 * 86400.0
    max_bytes: int | None = None
    compression: Compression = "s2"
    format: Format = "json"
    changes_per_message: int = 1
    max_batch_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.changes_per_message < 1 or self.replicas < 1 or self.max_batch_bytes < 1 or self.max_age_s < 0:
            raise ConfigError(
                f"changes_per_message ({self.changes_per_message}), replicas ({self.replicas}) and max_batch_bytes "
                f"({self.max_batch_bytes}) must be at least 1, max_age_s ({self.max_age_s}) not negative"
            )
        if self.format not in ("json", "arrow"):
            raise ConfigError(f"format {self.format!r} is unknown; use json or arrow")
        if self.compression not in ("none", "s2"):
            raise ConfigError(f"compression {self.compression!r} is unknown; use none or s2")

    def stream_spec(self, source: str) -> StreamSpec:
        """The required configuration of the stream of a source."""
        return StreamSpec(source, self.replicas, self.max_age_s, self.max_bytes, self.compression)
