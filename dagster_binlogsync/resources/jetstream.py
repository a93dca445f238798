"""NATS JetStream: the tail publishes to it, the consumers read from it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import dagster as dg
from pydantic import Field

from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.sinks.jetstream.packing import Format


class JetStream(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A nats-server 2.12 or newer with JetStream. Stream settings apply when the stream is created."""

    url: str = Field(
        default="nats://127.0.0.1:4222", description="One address, or several of one cluster separated by commas."
    )
    user: str | None = Field(default=None, description="User, for password authentication.")
    password: str | None = Field(default=None, description="Password; set it by an environment variable.")
    token: str | None = Field(default=None, description="Token; set it by an environment variable.")
    credentials_file: str | None = Field(default=None, description="Path of a .creds file (JWT and seed).")
    nkey_seed_file: str | None = Field(default=None, description="Path of a file with an NKey seed (SU...).")
    tls_ca_file: str | None = Field(default=None, description="Certificate authority; any TLS file turns TLS on.")
    tls_cert_file: str | None = Field(default=None, description="Client certificate, if the server requires one.")
    tls_key_file: str | None = Field(default=None, description="Key of the client certificate.")
    replicas: int = Field(default=1, description="Copies of the stream in a cluster; 3 survive the loss of one server.")
    max_age_days: int = Field(default=7, description="Retention of the stream in days; 0 for no limit.")
    max_bytes: int | None = Field(
        default=None, description="Maximum size of the stream; the oldest changes are dropped first. None: no limit."
    )
    format: str = Field(default="json", description="json: Debezium's envelopes; arrow: Arrow streams, for speed.")
    changes_per_message: int = Field(default=1, description="Above 1: that many envelopes per message, one per line.")
    reconnect_timeout_s: float = Field(default=60.0, ge=0, description="Seconds to retry a lost connection.")

    @contextmanager
    def sink(self) -> Iterator[JetStreamSink]:
        """The sink, for the tail to open. It is closed at the end of the block."""
        with closing(JetStreamSink(self.options())) as sink:
            yield sink

    def options(self) -> JetStreamOptions:
        """The options as the library takes them."""
        return JetStreamOptions(
            **self._connection(),
            reconnect_timeout_s=self.reconnect_timeout_s,
            replicas=self.replicas,
            max_age_s=self.max_age_days * 86400.0,
            max_bytes=self.max_bytes,
            format=cast(Format, self.format),
            changes_per_message=self.changes_per_message,
        )

    @contextmanager
    def reader(self, source: str, *, patience_s: float | None = None) -> Iterator[StreamReader]:
        """An open reader. Raises SinkError if NATS is not reachable, WireError if the source has no stream yet.

        `patience_s` is how long to retry a lost connection, by default `reconnect_timeout_s`.
        """
        patience_s = self.reconnect_timeout_s if patience_s is None else patience_s
        options = NatsOptions(**self._connection(), reconnect_timeout_s=patience_s)
        with StreamReader(options, source) as reader:
            yield reader

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
