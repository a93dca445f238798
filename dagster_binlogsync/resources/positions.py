"""The position store for checkpoints and leases: SQLite, Redis, NATS, or one of another package."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from binlogsync.settings.model import NatsSection, PositionsSection, RedisSection
from binlogsync.stores import PositionStore
from dagster_binlogsync.setting_field import setting_field


class SQLitePositionsConfig(dg.Config):
    """A local SQLite file, the default."""

    kind: Literal["sqlite"] = "sqlite"
    path: str = setting_field(PositionsSection, "path")


class RedisPositionsConfig(dg.Config):
    """A Redis or Valkey server, for tails that may start on any machine."""

    kind: Literal["redis"] = "redis"
    host: str = setting_field(RedisSection, "host")
    port: int = setting_field(RedisSection, "port")
    database: int = setting_field(RedisSection, "database")
    username: str | None = setting_field(RedisSection, "user")
    password: str | None = setting_field(RedisSection, "password")
    prefix: str = Field(default="binlogsync", description="Prefix of all keys.")
    tls: bool = setting_field(RedisSection, "tls")
    tls_ca_file: str | None = setting_field(RedisSection, "tls_ca_file")
    tls_cert_file: str | None = setting_field(RedisSection, "tls_cert_file")
    tls_key_file: str | None = setting_field(RedisSection, "tls_key_file")


class NatsPositionsConfig(dg.Config):
    """A NATS key-value bucket, for tails that may start on any machine, without an additional server."""

    kind: Literal["nats"] = "nats"
    url: str = setting_field(NatsSection, "url")
    user: str | None = setting_field(NatsSection, "user")
    password: str | None = setting_field(NatsSection, "password")
    token: str | None = setting_field(NatsSection, "token")
    credentials_file: str | None = setting_field(NatsSection, "credentials_file")
    nkey_seed_file: str | None = setting_field(NatsSection, "nkey_seed_file")
    tls_ca_file: str | None = setting_field(NatsSection, "tls_ca_file")
    tls_cert_file: str | None = setting_field(NatsSection, "tls_cert_file")
    tls_key_file: str | None = setting_field(NatsSection, "tls_key_file")
    reconnect_timeout_s: float = Field(default=10.0, ge=0, description="Seconds to retry a lost connection.")


class ImportedPositionsConfig(dg.Config):
    """A store of another package."""

    kind: Literal["imported"] = "imported"
    reference: str = Field(
        description="package.module:function; the function has no arguments, and returns a PositionStore."
    )


class Positions(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The position store: checkpoints, bookmarks and leases of the tails."""

    backend: SQLitePositionsConfig | RedisPositionsConfig | NatsPositionsConfig | ImportedPositionsConfig = Field(
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
            from binlogsync.stores.sqlite import SQLitePositionStore

            return SQLitePositionStore(Path(backend.path))
        if isinstance(backend, NatsPositionsConfig):
            from binlogsync.nats.client import NatsOptions
            from binlogsync.stores.nats import NatsPositionStore

            return NatsPositionStore(NatsOptions(**backend.model_dump(exclude={"kind"})))
        if isinstance(backend, ImportedPositionsConfig):
            from binlogsync.stores.imported import open_imported

            return open_imported(backend.reference)
        from binlogsync.stores.redis import RedisOptions, RedisPositionStore

        return RedisPositionStore(RedisOptions(**backend.model_dump(exclude={"kind"})))
