"""What the settings of a deployment come to: the options with which the library's objects are made.

Libraries of servers and formats are imported by the method that needs them, so settings are read before they load.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from binlogsync.errors import ConfigError
from binlogsync.settings.catalog import Setting, list_settings
from binlogsync.settings.load import Origins, load
from binlogsync.settings.model import Section, SettingsModel

if TYPE_CHECKING:
    from binlogsync.mysql import MySQLConfig
    from binlogsync.nats.client import NatsOptions
    from binlogsync.sinks.audit import AuditSink
    from binlogsync.sinks.jetstream import JetStreamOptions
    from binlogsync.snapshot.requests import SnapshotRequests
    from binlogsync.snapshot.throttle import LoadLimits
    from binlogsync.stores import PositionStore
    from binlogsync.tail.options import TailOptions

_DAY_S = 86400.0
_STORE_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a deployment. Methods open and connect nothing, and raise ConfigError.

    Attributes:
        values: the effective values.
        origins: where each value was set; a default has none.
    """

    values: SettingsModel = field(default_factory=lambda: SettingsModel.from_layers(()))
    origins: Origins = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings of the environment, and of `.env` and binlogsync.toml in `folder` (None: the current one).

        Raises ConfigError for a file that cannot be read, for names that are no settings, and for wrong values.
        """
        return cls(*load(folder or Path(), environment))

    def items(self) -> Iterator[tuple[Setting, Any]]:
        """Each setting with its effective value, those of further sources included."""
        for setting in list_settings(self.values.source):
            value: Any = self.values
            for name in setting.path:
                value = value[name] if isinstance(value, dict) else getattr(value, name)
            yield setting, value

    def sources(self) -> tuple[str, ...]:
        """Names of the sources, the default one first."""
        return self.values.source

    def source(self, name: str | None = None) -> str:
        """The source of that name, the first when None."""
        names = self.sources()
        if name is not None and name not in names:
            raise ConfigError(f"{name!r} is none of the sources in BINLOGSYNC_SOURCE: {', '.join(names)}")
        return name or names[0]

    def mysql(self, source: str | None = None) -> MySQLConfig:
        """The server of a source, the first when None."""
        from binlogsync.mysql import TLS, MySQLConfig

        name = self.source(source)
        path = ("mysql",) if name == self.sources()[0] else ("sources", name, "mysql")
        values = self.values.mysql if len(path) == 1 else self.values.sources[name].mysql
        with self._about(*path, "tls"):
            tls = TLS(values.tls, values.tls_ca_file, values.tls_cert_file, values.tls_key_file)
        with self._about(*path, "host"):
            config = MySQLConfig(
                host=values.host,
                port=values.port,
                user=values.user,
                password=_reveal(values.password) or "",
                unix_socket=values.socket,
                tls=tls,
                public_key_file=values.public_key_file,
                server_id=values.server_id,
                source=name,
            )
        with self._about(*path, "replicas"):
            return replace(config, replicas=values.replicas)

    def nats(self, reconnect_timeout_s: float = 60.0) -> NatsOptions:
        """How to reach NATS, for readers."""
        from binlogsync.nats.client import NatsOptions

        return NatsOptions(**_revealed(self.values.nats), reconnect_timeout_s=reconnect_timeout_s)

    def jetstream(self) -> JetStreamOptions:
        """How to reach NATS, and how the stream is created and written."""
        from binlogsync.sinks.jetstream import JetStreamOptions

        stream = self.values.stream
        return JetStreamOptions(
            **_revealed(self.values.nats),
            replicas=stream.replicas,
            max_age_s=stream.max_age_days * _DAY_S,
            max_bytes=stream.max_bytes or None,
            compression=stream.compression,
            format=stream.format,
            changes_per_message=stream.changes_per_message,
        )

    def snapshots(self, source: str | None = None) -> SnapshotRequests:
        """The snapshot requests of a source; they connect at their first use."""
        from binlogsync.snapshot.requests_nats import NatsSnapshotRequests

        return NatsSnapshotRequests(self.nats(_STORE_PATIENCE_S), self.source(source))

    def tail(self, source: str | None = None) -> TailOptions:
        """What to tail, and how."""
        from binlogsync.start_notation import parse_start
        from binlogsync.tail.options import TailOptions

        values = self.values.tail
        with self._about("tail", "start"):
            parse_start(values.start)
        return TailOptions(
            self.source(source),
            flush=values.flush,
            flush_interval_s=values.flush_interval_s,
            flush_rows=values.flush_rows,
            include=values.include,
            exclude=values.exclude,
            start=values.start,
            snapshot=values.snapshot,
            snapshot_keyless_rows=values.snapshot_keyless_rows,
            bookmark_s=values.bookmark_minutes * 60,
            bookmark_keep=values.bookmark_keep,
            bookmark_keep_s=values.bookmark_keep_days * _DAY_S,
        )

    def positions(self) -> PositionStore:
        """The position store; it connects at its first use."""
        if self.values.positions.store == "nats":
            from binlogsync.stores.nats import NatsPositionStore

            return NatsPositionStore(self.nats(_STORE_PATIENCE_S))
        if self.values.positions.store == "sqlite":
            from binlogsync.stores.sqlite import SQLitePositionStore

            return SQLitePositionStore(Path(self.values.positions.path))
        if self.values.positions.store != "redis":
            from binlogsync.stores.imported import open_imported

            return open_imported(self.values.positions.store)
        from binlogsync.stores.redis import RedisOptions, RedisPositionStore

        values = _revealed(self.values.redis)
        return RedisPositionStore(RedisOptions(username=values.pop("user"), **values))

    def has_position_store(self) -> bool:
        """True when the position store is set, or its file exists at the default path."""
        is_set = any(("positions", name) in self.origins for name in ("store", "path"))
        return is_set or Path(self.values.positions.path).exists()

    def audit_path(self) -> Path | None:
        """The audit log's file; None when it is off."""
        path = self.values.audit.path
        return None if path == "off" else Path(path)

    def audit(self) -> AuditSink | None:
        """The audit log, which the tail opens; None when it is off."""
        path = self.audit_path()
        if path is None:
            return None
        from binlogsync.sinks.audit import AuditSink

        return AuditSink(path)

    def warehouse_path(self) -> Path:
        """The DuckDB file of mirrors and of what handlers write."""
        return Path(self.values.warehouse.path)

    def table_lists(self) -> Path:
        """The folder of the lists of tables."""
        return Path(self.values.dagster.table_lists)

    def load_limits(self) -> LoadLimits:
        """The limits of loads of mirrors."""
        from binlogsync.snapshot.throttle import LoadLimits

        values = self.values.load
        return LoadLimits(
            rows_per_s=values.rows_per_second or None,
            threads_running=values.threads_running or None,
            replica_lag_s=values.replica_lag_s or None,
            group_tables=values.group_tables,
        )

    def consumers(self) -> str:
        """The package that holds the consumers of this project."""
        return self.values.dagster.consumers

    def check(self) -> None:
        """Make all options, so that values which are wrong only together are found."""
        for source in self.sources():
            self.mysql(source)
        self.jetstream()
        self.tail()
        self.positions().close()

    @contextmanager
    def _about(self, *path: str) -> Iterator[None]:
        """What is raised inside the block names the setting, and where it was set."""
        try:
            yield
        except ConfigError as error:
            found = self.origins.get(path)
            variable = next(setting.variable for setting, _ in self.items() if setting.path == path)
            name = variable if found is None else f"{found.name} ({found.where})"
            raise ConfigError(f"{name}: {error}") from error


def _reveal(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _revealed(section: Section) -> dict[str, Any]:
    """The values of a section, with its secrets."""
    return {name: _reveal(getattr(section, name)) for name in type(section).model_fields}
