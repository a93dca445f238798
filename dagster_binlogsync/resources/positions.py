"""The position store for checkpoints and leases: SQLite, Redis or NATS, selected by configuration.

To add a store, add a module to binlogsync/stores and a `dg.Config` with a new `kind` here.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from binlogsync.nats.client import NatsOptions
from binlogsync.stores import PositionStore, nats, redis, sqlite


class SQLitePositionsConfig(dg.Config):
    """A local SQLite file, the default."""

    kind: Literal["sqlite"] = "sqlite"
    path: str = Field(
        default=".binlogsync/positions.db",
        description="Path of the file, which is created if missing. It must be on a local disk.",
    )


class RedisPositionsConfig(dg.Config):
    """A Redis or Valkey server, for tails that may start on any machine."""

    kind: Literal["redis"] = "redis"
    host: str = Field(default="127.0.0.1", description="Host name or address.")
    port: int = Field(default=6379, description="TCP port.")
    database: int = Field(default=0, description="Database number.")
    username: str | None = Field(default=None, description="ACL user. None: the default user.")
    password: str | None = Field(default=None, description="Password; set it by an environment variable.")
    prefix: str = Field(default="binlogsync", description="Prefix of all keys.")
    tls: bool = Field(default=False, description="Use TLS, and verify the server's certificate.")
    tls_ca_file: str | None = Field(default=None, description="Certificate authority. None: those of the system.")
    tls_cert_file: str | None = Field(default=None, description="Client certificate, if the server requires one.")
    tls_key_file: str | None = Field(default=None, description="Key of the client certificate.")


class NatsPositionsConfig(dg.Config):
    """A NATS key-value bucket, for tails that may start on any machine, without an additional server."""

    kind: Literal["nats"] = "nats"
    url: str = Field(default="nats://127.0.0.1:4222", description="One address, or several of one cluster.")
    user: str | None = Field(default=None, description="User, for password authentication.")
    password: str | None = Field(default=None, description="Password; set it by an environment variable.")
    token: str | None = Field(default=None, description="Token; set it by an environment variable.")
    credentials_file: str | None = Field(default=None, description="Path of a .creds file (JWT and seed).")
    nkey_seed_file: str | None = Field(default=None, description="Path of a file with an NKey seed (SU...).")
    tls_ca_file: str | None = Field(default=None, description="Certificate authority; any TLS file turns TLS on.")
    tls_cert_file: str | None = Field(default=None, description="Client certificate.")
    tls_key_file: str | None = Field(default=None, description="Key of the client certificate.")
    reconnect_timeout_s: float = Field(default=10.0, ge=0, description="Seconds to retry a lost connection.")


class Positions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The position store: checkpoints, bookmarks and leases of the tails."""

    backend: SQLitePositionsConfig | RedisPositionsConfig | NatsPositionsConfig = Field(
        default=SQLitePositionsConfig(),
        discriminator="kind",
        description="Kind of the store, and its connection settings.",
    )

    @contextmanager
    def store(self) -> Iterator[PositionStore]:
        """The store. It connects at the first use and is closed at the end of the block. Methods raise StoreError."""
        with closing(self._make()) as store:
            yield store

    def _make(self) -> PositionStore:
        backend = self.backend
        if isinstance(backend, SQLitePositionsConfig):
            return sqlite.SQLitePositionStore(Path(backend.path))
        if isinstance(backend, NatsPositionsConfig):
            return nats.NatsPositionStore(NatsOptions(**backend.model_dump(exclude={"kind"})))
        return redis.RedisPositionStore(redis.RedisOptions(**backend.model_dump(exclude={"kind"})))
