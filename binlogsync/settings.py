"""The deployment as BINLOGSYNC_* variables describe it, for programs without Dagster: one `Settings`.

    settings = Settings.read()
    sinks = [JetStreamSink(settings.jetstream())]
    tail = Tail(settings.mysql(), sinks, settings.positions(), settings.tail(), owner="me")

Names, meanings and defaults are those of `.env.example`, and of the Dagster project's resources. A variable that is not
set, or set to nothing, has its default; one that does not exist is refused. Nothing is opened or connected here. A
value that cannot be right is a ConfigError with the variable's name; a text is shown only where it cannot be a secret.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from binlogsync.codec.subjects import check_source
from binlogsync.dotenv import parse_dotenv
from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter, split_patterns
from binlogsync.mysql import TLS, MySQLConfig, parse_start
from binlogsync.mysql.config import TLSMode
from binlogsync.nats.client import NatsOptions
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.sinks.jetstream.packing import Format
from binlogsync.stores import PositionStore
from binlogsync.stores.nats import NatsPositionStore
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.tail.options import TailOptions
from binlogsync.variables import check_variables

if TYPE_CHECKING:
    from binlogsync.sinks.audit import AuditSink

Number = TypeVar("Number", int, float)
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_TLS_MODES = ("preferred", "required", "verify_ca", "verify_identity", "disabled")
_DAY_S = 86400.0
_STORE_PATIENCE_S = 10.0
_POSITIONS_PATH = ".binlogsync/positions.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a deployment, from its variables. Every method raises ConfigError."""

    variables: Mapping[str, str] = field(repr=False)

    @classmethod
    def read(cls, folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
        """The file `.env` in `folder` (None: the current one), where there is one, and the environment, which wins."""
        path = (folder or Path()) / ".env"
        try:
            found = parse_dotenv(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            found = {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}; fix it, or remove it") from error
        settings = cls({**found, **environment})
        names = _listed(settings._text("BINLOGSYNC_SOURCE", "main"))
        check_variables(found, names, str(path))
        check_variables(environment, names)
        return settings

    def sources(self) -> tuple[str, ...]:
        """Names of the sources, the default one first."""
        variable = "BINLOGSYNC_SOURCE"
        names = _listed(self._text(variable, "main"))
        with _about(variable):
            keys = [_key(check_source(name)) for name in names]
        if not names or len(set(keys)) != len(keys):
            raise ConfigError(
                f"{variable}={','.join(names)}: name at least one source, and each once (- and _ count as one)"
            )
        return names

    def source(self, name: str | None = None) -> str:
        """The source of that name, the first when None."""
        names = self.sources()
        if name is not None and name not in names:
            raise ConfigError(f"{name!r} is none of the sources in BINLOGSYNC_SOURCE: {', '.join(names)}")
        return name or names[0]

    def mysql(self, source: str | None = None) -> MySQLConfig:
        """The server of a source: BINLOGSYNC_MYSQL_... of the first, BINLOGSYNC_<NAME>_MYSQL_... of the others."""
        name = self.source(source)
        prefix = "BINLOGSYNC_MYSQL" if name == self.sources()[0] else f"BINLOGSYNC_{_key(name).upper()}_MYSQL"
        mode = cast(TLSMode, self._choice(f"{prefix}_TLS", _TLS_MODES))
        with _about(f"{prefix}_TLS"):
            tls = TLS(mode, *(self._optional(f"{prefix}_TLS_{kind}_FILE") for kind in ("CA", "CERT", "KEY")))
        identity = f"{prefix}_SERVER_ID"
        return MySQLConfig(
            host=self._text(f"{prefix}_HOST", "127.0.0.1"),
            port=self._number(f"{prefix}_PORT", int, 3306, (1, 65535)),
            user=self._text(f"{prefix}_USER", "binlogsync"),
            password=self._text(f"{prefix}_PASSWORD", ""),
            unix_socket=self._optional(f"{prefix}_SOCKET"),
            tls=tls,
            public_key_file=self._optional(f"{prefix}_PUBLIC_KEY_FILE"),
            server_id=self._number(identity, int, 0, (1, 2**32 - 1)) if self._optional(identity) else None,
            source=name,
        )

    def nats(self, reconnect_timeout_s: float = 60.0) -> NatsOptions:
        """How to reach NATS, for readers."""
        return NatsOptions(**self._nats(), reconnect_timeout_s=reconnect_timeout_s)

    def jetstream(self) -> JetStreamOptions:
        """How to reach NATS, and how the stream is made and written."""
        prefix = "BINLOGSYNC_STREAM"
        return JetStreamOptions(
            **self._nats(),
            replicas=self._number(f"{prefix}_REPLICAS", int, 1, (1, None)),
            max_age_s=self._number(f"{prefix}_MAX_AGE_DAYS", int, 7, (0, None)) * _DAY_S,
            max_bytes=self._number(f"{prefix}_MAX_BYTES", int, 0, (0, None)) or None,
            format=cast(Format, self._choice(f"{prefix}_FORMAT", ("json", "arrow"))),
            changes_per_message=self._number(f"{prefix}_CHANGES_PER_MESSAGE", int, 1, (1, None)),
        )

    def tail(self, source: str | None = None) -> TailOptions:
        """What to tail, and how."""
        start = self._text("BINLOGSYNC_START", "now")
        with _about("BINLOGSYNC_START"):
            parse_start(start)
        return TailOptions(
            self.source(source),
            flush_interval_s=self._number("BINLOGSYNC_FLUSH_INTERVAL_S", float, 3.0, (1e-3, None)),
            flush_rows=self._number("BINLOGSYNC_FLUSH_ROWS", int, 1024, (1, None)),
            include=self._tables("BINLOGSYNC_INCLUDE"),
            exclude=self._tables("BINLOGSYNC_EXCLUDE"),
            start=start,
            bookmark_s=self._number("BINLOGSYNC_BOOKMARK_MINUTES", float, 10.0, (1e-3, None)) * 60,
            bookmark_keep=self._number("BINLOGSYNC_BOOKMARK_KEEP", int, 1000, (1, None)),
            bookmark_keep_s=self._number("BINLOGSYNC_BOOKMARK_KEEP_DAYS", float, 30.0, (1e-3, None)) * _DAY_S,
        )

    def positions(self) -> PositionStore:
        """The position store; it connects at its first use."""
        kind = self._choice("BINLOGSYNC_POSITIONS", ("sqlite", "redis", "nats"))
        if kind == "nats":
            return NatsPositionStore(self.nats(_STORE_PATIENCE_S))
        if kind == "sqlite":
            return SQLitePositionStore(Path(self._text("BINLOGSYNC_POSITIONS_PATH", _POSITIONS_PATH)))
        from binlogsync.stores.redis import RedisOptions, RedisPositionStore

        prefix = "BINLOGSYNC_REDIS"
        options = RedisOptions(
            host=self._text(f"{prefix}_HOST", "127.0.0.1"),
            port=self._number(f"{prefix}_PORT", int, 6379, (1, 65535)),
            database=self._number(f"{prefix}_DATABASE", int, 0, (0, None)),
            username=self._optional(f"{prefix}_USER"),
            password=self._optional(f"{prefix}_PASSWORD"),
            tls=self._switch(f"{prefix}_TLS"),
            tls_ca_file=self._optional(f"{prefix}_TLS_CA_FILE"),
            tls_cert_file=self._optional(f"{prefix}_TLS_CERT_FILE"),
            tls_key_file=self._optional(f"{prefix}_TLS_KEY_FILE"),
        )
        with _about(prefix):
            return RedisPositionStore(options)

    def has_position_store(self) -> bool:
        """True when a variable selects the position store, or its file exists at the default path."""
        chosen = self._optional("BINLOGSYNC_POSITIONS") or self._optional("BINLOGSYNC_POSITIONS_PATH")
        return bool(chosen) or Path(_POSITIONS_PATH).exists()

    def audit_path(self) -> Path | None:
        """The audit log's file; None when it is off."""
        path = self._text("BINLOGSYNC_AUDIT_PATH", "off")
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
        return Path(self._text("BINLOGSYNC_WAREHOUSE_PATH", ".binlogsync/warehouse.duckdb"))

    def consumers(self) -> str:
        """The package that holds the consumers of this project."""
        return self._text("BINLOGSYNC_CONSUMERS", "pipelines.consumers")

    def _nats(self) -> dict[str, Any]:
        prefix = "BINLOGSYNC_NATS"
        names = ["user", "password", "token", "credentials_file", "nkey_seed_file"]
        names += ["tls_ca_file", "tls_cert_file", "tls_key_file"]
        return {
            "url": self._text(f"{prefix}_URL", "nats://127.0.0.1:4222"),
            **{name: self._optional(f"{prefix}_{name.upper()}") for name in names},
        }

    def _tables(self, variable: str) -> tuple[str, ...]:
        patterns = split_patterns(self._text(variable, ""))
        with _about(variable):
            TableFilter(patterns)
        return patterns

    def _optional(self, variable: str) -> str | None:
        return self.variables.get(variable) or None

    def _text(self, variable: str, default: str) -> str:
        return self._optional(variable) or default

    def _choice(self, variable: str, choices: tuple[str, ...]) -> str:
        """One of the words, the first when not set."""
        value = self._text(variable, choices[0])
        if value not in choices:
            raise ConfigError(f"{variable}={value!r}: it is one of {', '.join(choices)}")
        return value

    def _switch(self, variable: str) -> bool:
        value = self._text(variable, "0").strip().lower()
        if value not in _YES | _NO:
            raise ConfigError(f"{variable}={value!r}: write 1 for yes or 0 for no")
        return value in _YES

    def _number(
        self, variable: str, kind: Callable[[str], Number], default: Number, limits: tuple[float, float | None]
    ) -> Number:
        """A number within `limits`, the second of which may be missing."""
        text = self._optional(variable)
        if text is None:
            return default
        low, high = limits
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        try:
            value = kind(text)
        except ValueError as error:
            raise ConfigError(f"{variable}={text!r} is not a number; it is {bounds}") from error
        if not math.isfinite(value) or value < low or (high is not None and value > high):
            raise ConfigError(f"{variable}={text!r}: it is {bounds}")
        return value


@contextmanager
def _about(variable: str) -> Iterator[None]:
    """What is raised inside the block names the variable."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{variable}: {error}") from error


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _key(source: str) -> str:
    """The name of a source in names of variables, before it is made upper case."""
    return re.sub(r"[^A-Za-z0-9_]", "_", source)
