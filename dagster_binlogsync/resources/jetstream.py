"""NATS JetStream: the tail publishes to it, the consumers read from it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from pydantic import Field

from binlogsync.settings.model import NatsSection, StreamSection
from binlogsync.snapshot.requests import SnapshotRequests
from dagster_binlogsync.setting_field import setting_field

if TYPE_CHECKING:
    from binlogsync.nats.reader import StreamReader
    from binlogsync.nats.stream import Compression
    from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
    from binlogsync.sinks.jetstream.packing import Format


class JetStream(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A nats-server 2.12 or newer with JetStream. Stream settings apply when the stream is created."""

    url: str = setting_field(NatsSection, "url")
    user: str | None = setting_field(NatsSection, "user")
    password: str | None = setting_field(NatsSection, "password")
    token: str | None = setting_field(NatsSection, "token")
    credentials_file: str | None = setting_field(NatsSection, "credentials_file")
    nkey_seed_file: str | None = setting_field(NatsSection, "nkey_seed_file")
    tls_ca_file: str | None = setting_field(NatsSection, "tls_ca_file")
    tls_cert_file: str | None = setting_field(NatsSection, "tls_cert_file")
    tls_key_file: str | None = setting_field(NatsSection, "tls_key_file")
    replicas: int = setting_field(StreamSection, "replicas")
    max_age_days: int = setting_field(StreamSection, "max_age_days")
    max_bytes: int | None = setting_field(StreamSection, "max_bytes", default=None)
    compression: str = setting_field(StreamSection, "compression")
    format: str = setting_field(StreamSection, "format")
    changes_per_message: int = setting_field(StreamSection, "changes_per_message")
    reconnect_timeout_s: float = Field(default=60.0, ge=0, description="Seconds to retry a lost connection.")

    @contextmanager
    def sink(self) -> "Iterator[JetStreamSink]":
        """The sink, for the tail to open. It is closed at the end of the block."""
        from binlogsync.sinks.jetstream import JetStreamSink

        with closing(JetStreamSink(self.options())) as sink:
            yield sink

    def options(self) -> "JetStreamOptions":
        """The options as the library takes them."""
        from binlogsync.sinks.jetstream import JetStreamOptions

        return JetStreamOptions(
            **self._connection(),
            reconnect_timeout_s=self.reconnect_timeout_s,
            replicas=self.replicas,
            max_age_s=self.max_age_days * 86400.0,
            max_bytes=self.max_bytes or None,
            compression=cast("Compression", self.compression),
            format=cast("Format", self.format),
            changes_per_message=self.changes_per_message,
        )

    @contextmanager
    def reader(self, source: str, *, patience_s: float | None = None) -> "Iterator[StreamReader]":
        """An open reader. Raises SinkError if NATS is not reachable, WireError if the source has no stream yet.

        `patience_s` is how long to retry a lost connection, by default `reconnect_timeout_s`.
        """
        from binlogsync.nats.client import NatsOptions
        from binlogsync.nats.reader import StreamReader

        patience_s = self.reconnect_timeout_s if patience_s is None else patience_s
        options = NatsOptions(**self._connection(), reconnect_timeout_s=patience_s)
        with StreamReader(options, source) as reader:
            yield reader

    @contextmanager
    def snapshots(self, source: str) -> Iterator[SnapshotRequests]:
        """The snapshot requests of a source. They connect at the first use and are closed at the end of the block."""
        from binlogsync.nats.client import NatsOptions
        from binlogsync.snapshot.requests_nats import NatsSnapshotRequests

        options = NatsOptions(**self._connection(), reconnect_timeout_s=self.reconnect_timeout_s)
        with closing(NatsSnapshotRequests(options, source)) as requests:
            yield requests

    def _connection(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "credentials_file": self.credentials_file,
            "nkey_seed_file": self.nkey_seed_file,
            "tls_ca_file": self.tls_ca_file,
            "tls_cert_file": self.tls_cert_file,
            "tls_key_file": self.tls_key_file,
        }
