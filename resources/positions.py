"""Where positions and leases are kept: one of the stores that ship, chosen by configuration.

A third store is a `dg.Config` with a `kind` of its own here, beside one file in binlogsync/stores.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from binlogsync.errors import ConfigError
from binlogsync.stores import PositionStore, nats, redis, sqlite
from binlogsync.stream.client import NatsOptions
from resources import environment
from resources.jetstream import nats_environment


class SQLitePositionsConfig(dg.Config):
    """One SQLite file on this machine; the embedded default."""

    kind: Literal["sqlite"] = "sqlite"
    path: str = Field(
        default=".binlogsync/positions.db", description="The file; made when missing. It must lie on a local disk."
    )


class RedisPositionsConfig(dg.Config):
    """A Redis or Valkey server; for tails that may start on any machine."""

    kind: Literal["redis"] = "redis"
    host: str = Field(default="127.0.0.1", description="Host name or address.")
    port: int = Field(default=6379, description="TCP port.")
    database: int = Field(default=0, description="Number of the database.")
    username: str | None = Field(default=None, description="User of an ACL; none for the default user.")
    password: str | None = Field(default=None, description="Give it as an environment variable.")
    prefix: str = Field(default="binlogsync", description="Keys begin with it.")
    tls: bool = Field(default=False, description="Encrypt, and check the server's certificate.")
    tls_ca_file: str | None = Field(default=None, description="Certificate authority; none trusts the system's.")
    tls_cert_file: str | None = Field(
        default=None, description="Certificate of this client, where the server asks for one."
    )
    tls_key_file: str | None = Field(default=None, description="Its key.")


class NatsPositionsConfig(dg.Config):
    """A key-value bucket of NATS; for tails that may start anywhere, without another server."""

    kind: Literal["nats"] = "nats"
    url: str = Field(default="nats://127.0.0.1:4222", description="One address, or several of one cluster.")
    user: str | None = Field(default=None, description="User, for password authentication.")
    password: str | None = Field(default=None, description="Give it as an environment variable.")
    token: str | None = Field(default=None, description="Token; give it as an environment variable.")
    credentials_file: str | None = Field(default=None, description="Path of a .creds file (JWT and seed).")
    nkey_seed_file: str | None = Field(default=None, description="Path of a file with an NKey seed (SU...).")
    tls_ca_file: str | None = Field(default=None, description="Certificate authority; any TLS file turns TLS on.")
    tls_cert_file: str | None = Field(default=None, description="Certificate of this client.")
    tls_key_file: str | None = Field(default=None, description="Its key.")
    reconnect_timeout_s: float = Field(default=10.0, ge=0, description="How long a lost connection is tried again.")


class Positions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The position store: checkpoints of the tails, and the lease of each."""

    backend: SQLitePositionsConfig | RedisPositionsConfig | NatsPositionsConfig = Field(
        default=SQLitePositionsConfig(), discriminator="kind", description="Which store, and where it is."
    )

    @contextmanager
    def store(self) -> Iterator[PositionStore]:
        """The store, connected at its first use and closed with the block. Methods raise StoreError."""
        with closing(self._make()) as store:
            yield store

    def _make(self) -> PositionStore:
        backend = self.backend
        if isinstance(backend, SQLitePositionsConfig):
            return sqlite.SQLitePositionStore(Path(backend.path))
        if isinstance(backend, NatsPositionsConfig):
            return nats.NatsPositionStore(NatsOptions(**backend.model_dump(exclude={"kind"})))
        return redis.RedisPositionStore(redis.RedisOptions(**backend.model_dump(exclude={"kind"})))

    @classmethod
    def from_environment(cls) -> "Positions":
        """BINLOGSYNC_POSITIONS says sqlite (default), redis or nats; raises ConfigError for anything else."""
        kind = os.environ.get("BINLOGSYNC_POSITIONS") or "sqlite"
        if kind == "sqlite":
            return cls(
                backend=SQLitePositionsConfig(
                    path=environment.text("BINLOGSYNC_POSITIONS_PATH", ".binlogsync/positions.db")
                )
            )
        if kind == "nats":
            return cls(backend=NatsPositionsConfig(**nats_environment()))
        if kind != "redis":
            raise ConfigError(f"BINLOGSYNC_POSITIONS={kind!r}: it is sqlite, redis or nats")
        return cls(
            backend=RedisPositionsConfig(
                host=environment.text("BINLOGSYNC_REDIS_HOST", "127.0.0.1"),
                port=environment.integer("BINLOGSYNC_REDIS_PORT", 6379),
                database=environment.integer("BINLOGSYNC_REDIS_DATABASE", 0),
                username=environment.optional_text("BINLOGSYNC_REDIS_USER"),
                password=environment.optional_text("BINLOGSYNC_REDIS_PASSWORD"),
                tls=environment.switch("BINLOGSYNC_REDIS_TLS", False),
                tls_ca_file=environment.optional_text("BINLOGSYNC_REDIS_TLS_CA_FILE"),
                tls_cert_file=environment.optional_text("BINLOGSYNC_REDIS_TLS_CERT_FILE"),
                tls_key_file=environment.optional_text("BINLOGSYNC_REDIS_TLS_KEY_FILE"),
            )
        )
