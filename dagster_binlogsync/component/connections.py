"""Connections of the component in YAML, and the resources that they become.

A password is written as "{{ secret('MYSQL_PASSWORD') }}": Dagster then stores the name of the variable, not its value.
"{{ env.X }}" is read when the definitions are loaded, and stored in clear. A variable that is not set is an error.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from binlogsync.errors import ConfigError
from binlogsync.stores.imported import check_kind
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.mysql import MySQLSource
from dagster_binlogsync.resources.positions import (
    ImportedPositionsConfig,
    NatsPositionsConfig,
    Positions,
    RedisPositionsConfig,
    SQLitePositionsConfig,
)


@dataclass(kw_only=True)
class MySQLConnection(dg.Resolvable):
    """The MySQL or MariaDB server of the source; the fields are those of BINLOGSYNC_MYSQL_... (docs/settings.md)."""

    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = None
    socket: str | None = None
    tls: str | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    public_key_file: str | None = None
    server_id: int | None = None
    replicas: str | None = None

    def build(self) -> MySQLSource:
        """The resource."""
        fields = _given(self)
        renamed = {"socket": "unix_socket", "tls": "tls_mode"}
        return MySQLSource(**{renamed.get(name, name): value for name, value in fields.items()})


@dataclass(kw_only=True)
class NatsServerOptions(dg.Resolvable):
    """NATS JetStream; the fields are those of BINLOGSYNC_NATS_... (docs/settings.md)."""

    url: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials_file: str | None = None
    nkey_seed_file: str | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for an address with user, password or token, which Dagster would store and show."""
        if self.url is None or isinstance(self.url, dg.EnvVar):
            return
        for address in self.url.split(","):
            if "@" in address:
                raise ConfigError(
                    f"the address of NATS at {address.rpartition('@')[2]} contains a login, which Dagster would store "
                    "in clear; put the address in a variable, and write url: \"{{ secret('NATS_URL') }}\""
                )


@dataclass(kw_only=True)
class StreamOptions(dg.Resolvable):
    """The stream; the fields are those of BINLOGSYNC_STREAM_... (docs/settings.md)."""

    replicas: int | None = None
    max_age_days: int | None = None
    max_bytes: int | None = None
    compression: str | None = None
    format: str | None = None
    changes_per_message: int | None = None

    def build(self, nats: NatsServerOptions) -> JetStream:
        """The resource of the stream and its server."""
        return JetStream(**_given(nats), **_given(self))


@dataclass(kw_only=True)
class PositionStoreOptions(dg.Resolvable):
    """The position store: `sqlite` with a path, `redis` with a server, `nats`, a bucket of the stream's NATS, or
    `package.module:function`, a function that returns a store.
    """

    store: str = "sqlite"
    path: str = ".binlogsync/positions.db"
    host: str | None = None
    port: int | None = None
    database: int | None = None
    user: str | None = None
    password: str | None = None
    tls: bool | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None

    def build(self, nats: NatsServerOptions, folder: Path) -> Positions:
        """The resource; a relative path is below the folder. Raises ConfigError for an unknown store."""
        if self.store == "sqlite":
            return Positions(backend=SQLitePositionsConfig(path=str(folder / self.path)))
        if self.store == "nats":
            return Positions(backend=NatsPositionsConfig(**_given(nats)))
        if self.store == "redis":
            fields = {name: value for name, value in _given(self).items() if name not in ("store", "path", "user")}
            return Positions(backend=RedisPositionsConfig(username=self.user, **fields))
        try:
            return Positions(backend=ImportedPositionsConfig(reference=check_kind(self.store)))
        except ValueError as error:
            raise ConfigError(f"positions.store is {self.store!r}: {error}") from None


def _given(section: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in asdict(section).items() if value is not None}
