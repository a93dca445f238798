"""NATS JetStream: where the tail writes to, and the consumers read from."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import dagster as dg
from pydantic import Field

from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.sinks.jetstream.publish_unit import Format
from binlogsync.stream.client import NatsOptions
from binlogsync.stream.reader import StreamReader
from resources import environment


class JetStream(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A nats-server 2.12 or newer with JetStream. What is set for the stream counts when it is made."""

    url: str = Field(
        default="nats://127.0.0.1:4222", description="One address, or several of one cluster separated by commas."
    )
    user: str | None = Field(default=None, description="User, for password authentication.")
    password: str | None = Field(default=None, description="Give it as an environment variable.")
    token: str | None = Field(default=None, description="Token; give it as an environment variable.")
    credentials_file: str | None = Field(default=None, description="Path of a .creds file (JWT and seed).")
    nkey_seed_file: str | None = Field(default=None, description="Path of a file with an NKey seed (SU...).")
    tls_ca_file: str | None = Field(default=None, description="Certificate authority; any TLS file turns TLS on.")
    tls_cert_file: str | None = Field(
        default=None, description="Certificate of this client, where the server asks for one."
    )
    tls_key_file: str | None = Field(default=None, description="Its key.")
    replicas: int = Field(default=1, description="Copies of the stream in a cluster; 3 survive the loss of one server.")
    max_age_days: int = Field(default=7, description="Days that the stream keeps changes; 0 for ever.")
    max_bytes: int | None = Field(
        default=None, description="Size of the stream; the oldest changes give way. None: no limit."
    )
    format: str = Field(default="json", description="json: Debezium's envelopes; arrow: Arrow streams, for speed.")
    changes_per_message: int = Field(default=1, description="Above 1: that many envelopes in a message, one a line.")
    reconnect_timeout_s: float = Field(default=60.0, ge=0, description="How long a lost connection is tried again.")

    @contextmanager
    def sink(self) -> Iterator[JetStreamSink]:
        """The writing side, for the tail, which opens it; closed with the block."""
        with closing(JetStreamSink(self.options())) as sink:
            yield sink

    def options(self) -> JetStreamOptions:
        """The same for the library."""
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
        """The reading side, open. Raises SinkError when NATS is not there, WireError when the source has no stream yet.

        `patience_s` is how long NATS may be away; by default as long as for the tail.
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

    @classmethod
    def from_environment(cls) -> "JetStream":
        """BINLOGSYNC_NATS_URL, _USER, _PASSWORD, _TOKEN, _CREDENTIALS_FILE, _TLS_CA_FILE, _TLS_CERT_FILE and so on.

        And BINLOGSYNC_STREAM_REPLICAS, _MAX_AGE_DAYS, _MAX_BYTES, _FORMAT, _CHANGES_PER_MESSAGE.
        """
        return cls(
            **nats_environment(),
            replicas=environment.integer("BINLOGSYNC_STREAM_REPLICAS", 1),
            max_age_days=environment.integer("BINLOGSYNC_STREAM_MAX_AGE_DAYS", 7),
            max_bytes=environment.integer("BINLOGSYNC_STREAM_MAX_BYTES", 0) or None,
            format=environment.text("BINLOGSYNC_STREAM_FORMAT", "json"),
            changes_per_message=environment.integer("BINLOGSYNC_STREAM_CHANGES_PER_MESSAGE", 1),
        )


def nats_environment() -> dict[str, Any]:
    """How to reach NATS, from BINLOGSYNC_NATS_*: fields of JetStream, and of the position store in NATS."""
    return {
        "url": environment.text("BINLOGSYNC_NATS_URL", "nats://127.0.0.1:4222"),
        "user": environment.optional_text("BINLOGSYNC_NATS_USER"),
        "password": environment.optional_text("BINLOGSYNC_NATS_PASSWORD"),
        "token": environment.optional_text("BINLOGSYNC_NATS_TOKEN"),
        "credentials_file": environment.optional_text("BINLOGSYNC_NATS_CREDENTIALS_FILE"),
        "nkey_seed_file": environment.optional_text("BINLOGSYNC_NATS_NKEY_SEED_FILE"),
        "tls_ca_file": environment.optional_text("BINLOGSYNC_NATS_TLS_CA_FILE"),
        "tls_cert_file": environment.optional_text("BINLOGSYNC_NATS_TLS_CERT_FILE"),
        "tls_key_file": environment.optional_text("BINLOGSYNC_NATS_TLS_KEY_FILE"),
    }
