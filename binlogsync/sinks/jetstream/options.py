"""How the JetStream sink is set up."""

from __future__ import annotations

from dataclasses import dataclass

from binlogsync.errors import ConfigError
from binlogsync.sinks.jetstream.publish_unit import Format
from binlogsync.stream.client import NatsOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamOptions(NatsOptions):
    """How to reach NATS (see NatsOptions), and how the stream is made and written.

    Attributes:
        replicas: of the stream and its buckets, when they are made.
        max_age_s: how long the stream keeps changes, when it is made; 0 for ever.
        max_bytes: size of the stream, when it is made; None without limit. The oldest changes give way.
        format: "json" (Debezium's envelopes) or "arrow" (Arrow IPC streams).
        changes_per_message: above 1, envelopes of one table, one a line, this many in a message (format "json").
        max_batch_bytes: of one atomic batch; two are in flight at most, or a few single messages.
    """

    replicas: int = 1
    max_age_s: float = 7 * 86400.0
    max_bytes: int | None = None
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
