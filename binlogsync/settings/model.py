"""The settings of a deployment, as one typed model: the only list of them.

The name of a variable is BINLOGSYNC_, the `prefix` of the section and the name of the field, unless its `Note` has
another. In binlogsync.toml a section is a table and a field is a key of it. docs/settings.md and .env.example are
generated from this file (`python -m binlogsync.settings.reference`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from binlogsync.codec.subjects import check_source
from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter, split_patterns
from binlogsync.stores.imported import check_kind


@dataclass(frozen=True, slots=True)
class Note:
    """What a field of pydantic cannot express.

    Attributes:
        variable: name of the variable without BINLOGSYNC_, if it is not the prefix of the section and the field's name.
        allowed: the allowed values in words, if they do not follow from type and limits.
        unit: of a number.
        example: a value for .env.example, if the default is empty.
        has_logins: it is one or several addresses, which may contain passwords.
        is_process_wide: it is read before binlogsync.toml, so that file cannot set it.
    """

    variable: str = ""
    allowed: str = ""
    unit: str = ""
    example: str = ""
    has_logins: bool = False
    is_process_wide: bool = False


class Section(BaseModel):
    """Settings that belong together. The docstring is the introduction of the section in the reference."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)
    prefix: ClassVar[str] = ""


def source_key(source: str) -> str:
    """The name of a source in names of variables (in upper case there) and of Dagster's definitions."""
    return re.sub(r"[^A-Za-z0-9_]", "_", source)


def split_names(value: Any) -> Any:
    """Names separated by commas as a tuple; other values unchanged."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _check_sources(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        keys = [source_key(check_source(name)) for name in names]
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if not names or len(set(keys)) != len(keys):
        raise ValueError("name at least one source, and each once (- and _ count as one)")
    return names


def _check_tables(patterns: tuple[str, ...]) -> tuple[str, ...]:
    try:
        TableFilter(patterns)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return patterns


def _to_switch(value: Any) -> Any:
    return {"running": True, "stopped": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


File = Annotated[str, Note(allowed="path")]
OptionalFile = Annotated[str | None, Note(allowed="path")]
Tables = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: split_patterns(value) if isinstance(value, str) else value),
    AfterValidator(_check_tables),
    Note(allowed="database.table with * and ?, separated by commas; a name with a dot, comma, * or ? in backquotes"),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]
Duration = Annotated[float, Field(ge=1e-3)]
Limit = Annotated[float, Field(ge=0)]


class MySQLSection(Section):
    """The MySQL or MariaDB server whose binary log is tailed: that of the first source. Another source, for example
    `eu`, has the same settings as `BINLOGSYNC_EU_MYSQL_HOST` and so on, in the file as `[sources.eu.mysql]`."""

    prefix: ClassVar[str] = "MYSQL_"
    host: Annotated[str, Note(allowed="host, or several as db1,db2:3307")] = Field(
        default="127.0.0.1",
        description="Host. With several that replicate from each other, the tail reads from the one that accepts "
        "writes, also after a failover.",
    )
    port: Port = Field(default=3306, description="TCP port.")
    user: str = Field(
        default="binlogsync", description="Account with REPLICATION SLAVE, REPLICATION CLIENT, SELECT and LOCK TABLES."
    )
    password: SecretStr | None = Field(default=None, description="Password of the account.")
    socket: Annotated[OptionalFile, Note(example="/run/mysqld/mysqld.sock")] = Field(
        default=None, description="Unix socket of the server; overrides host and port."
    )
    tls: Literal["preferred", "required", "verify_ca", "verify_identity", "disabled"] = Field(
        default="preferred", description="Encryption, as `--ssl-mode` of the mysql client."
    )
    tls_ca_file: OptionalFile = Field(
        default=None,
        description="Certificate authority (PEM), for verify_ca and verify_identity. Default: those of the system.",
    )
    tls_cert_file: OptionalFile = Field(
        default=None, description="Client certificate (PEM), if the server requires one."
    )
    tls_key_file: OptionalFile = Field(default=None, description="Key of the client certificate (PEM).")
    public_key_file: OptionalFile = Field(
        default=None,
        description="The server's public RSA key (public_key.pem in its data folder), for logins with "
        "caching_sha2_password without TLS.",
    )
    server_id: int | None = Field(
        default=None,
        ge=1,
        le=2**32 - 1,
        description="Server id of this replication client. Default: a stable id derived from source, machine and "
        "folder.",
    )
    replicas: Annotated[str | None, Note(allowed="hosts, as db2,db3:3307", example="db2,db3:3307")] = Field(
        default=None,
        description="Replicas of the server, which has the same account on them: loads pause while one lags "
        "(`BINLOGSYNC_LOAD_REPLICA_LAG_S`).",
    )


class NatsSection(Section):
    """NATS JetStream: nats-server 2.12 or newer."""

    prefix: ClassVar[str] = "NATS_"
    url: Annotated[
        str, Note(allowed="address, or several of one cluster with commas between them", has_logins=True)
    ] = Field(default="nats://127.0.0.1:4222", description="Address of the server.", repr=False)
    user: str | None = Field(default=None, description="User, for password authentication.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    token: SecretStr | None = Field(default=None, description="Token, for token authentication.")
    credentials_file: OptionalFile = Field(default=None, description="File .creds with JWT and seed.")
    nkey_seed_file: OptionalFile = Field(default=None, description="File with an NKey seed (SU...).")
    tls_ca_file: OptionalFile = Field(
        default=None, description="Certificate authority. Any TLS file switches TLS on, as a `tls://` address does."
    )
    tls_cert_file: OptionalFile = Field(default=None, description="Client certificate, if the server requires one.")
    tls_key_file: OptionalFile = Field(default=None, description="Key of the client certificate.")


class StreamSection(Section):
    """The stream. Replicas, age, size and compression apply when the tail creates it."""

    prefix: ClassVar[str] = "STREAM_"
    replicas: Count = Field(default=1, description="Replicas in a cluster; 3 survive the loss of one server.")
    max_age_days: Annotated[int, Field(ge=0), Note(unit="days")] = Field(
        default=7, description="Retention of the stream; 0 for no limit."
    )
    max_bytes: Annotated[int, Field(ge=0), Note(unit="bytes")] = Field(
        default=0, description="Maximum size of the stream; the oldest changes are dropped first. 0 for no limit."
    )
    compression: Literal["none", "s2"] = Field(
        default="s2",
        description="Compression of the stream on the disk of nats-server: `s2` takes a fifth of the space of "
        "`none` for json, and more of the server's processor time (bench/README.md).",
    )
    format: Literal["json", "arrow"] = Field(
        default="json", description="Format of messages: Debezium's envelopes, or Arrow IPC streams."
    )
    changes_per_message: Count = Field(
        default=1, description="Above 1, a json message has up to that many envelopes of one table, one per line."
    )


class PositionsSection(Section):
    """The position store: checkpoints, bookmarks and leases of the tails."""

    prefix: ClassVar[str] = "POSITIONS_"
    store: Annotated[
        str,
        AfterValidator(check_kind),
        Note(variable="POSITIONS", allowed="sqlite, redis, nats, or package.module:function"),
    ] = Field(
        default="sqlite",
        description="Kind: a file on this machine, a Redis server, or a key-value bucket of the NATS above; or a "
        "function of your own, without arguments, that returns a `binlogsync.stores.PositionStore`.",
    )
    path: File = Field(default=".binlogsync/positions.db", description="File of `sqlite`; on a local disk.")


class RedisSection(Section):
    """The Redis or Valkey server of the position store `redis`."""

    prefix: ClassVar[str] = "REDIS_"
    host: str = Field(default="127.0.0.1", description="Host.")
    port: Port = Field(default=6379, description="TCP port.")
    database: Annotated[int, Field(ge=0)] = Field(default=0, description="Number of the database.")
    user: str | None = Field(default=None, description="ACL user. Default: the default user.")
    password: SecretStr | None = Field(default=None, description="Password.")
    tls: bool = Field(default=False, description="Use TLS, and verify the server's certificate.")
    tls_ca_file: OptionalFile = Field(default=None, description="Certificate authority. Default: those of the system.")
    tls_cert_file: OptionalFile = Field(default=None, description="Client certificate, if the server requires one.")
    tls_key_file: OptionalFile = Field(default=None, description="Key of the client certificate.")


class WarehouseSection(Section):
    """The DuckDB file of mirrors and of what handlers write."""

    prefix: ClassVar[str] = "WAREHOUSE_"
    path: File = Field(default=".binlogsync/warehouse.duckdb", description="The file; it is created if missing.")
    storage_version: Annotated[str, Field(pattern=r"^v[0-9]+\.[0-9]+\.[0-9]+$")] | None = Field(
        default=None,
        description="Storage format of a new file, as a version of DuckDB: programs with DuckDB 1.4 and newer read "
        "`v1.4.0`. Default: the newest format, which DuckDB 1 does not read. An existing file keeps its format.",
    )


class LoadSection(Section):
    """Loads of mirrors: limits for reading existing rows in chunks, so that a load does not disturb the server. Options
    of `binlogsync mirror` win over them."""

    prefix: ClassVar[str] = "LOAD_"
    rows_per_second: Limit = Field(
        default=0.0, description="Existing rows of one table that are read per second, at most; 0 for no limit."
    )
    threads_running: Annotated[int, Field(ge=0)] = Field(
        default=100,
        description="Reading pauses while the server's status Threads_running is above this number; 0 for no limit.",
    )
    replica_lag_s: Annotated[Limit, Note(unit="seconds")] = Field(
        default=0.0,
        description="Reading pauses while the lag of a replica is longer: one of `BINLOGSYNC_MYSQL_REPLICAS`, or the "
        "server itself if it is a replica of the stream's source. 0 for no limit.",
    )
    group_tables: Count = Field(
        default=4,
        description="Tables of one group (`together`) that are loaded at the same time. Other tables are loaded by "
        "the worker of each.",
    )


class AuditSection(Section):
    """The audit log: a DuckDB file with every change and every flush."""

    prefix: ClassVar[str] = "AUDIT_"
    path: Annotated[str, Note(allowed="path, or off")] = Field(
        default="off", description="The file, which is created if missing; `off` for no audit log."
    )


class TailSection(Section):
    """The tail, for all sources. In Dagster, the Launchpad shows these values and can override them for a run."""

    start: Annotated[
        str,
        BeforeValidator(lambda value: value.isoformat() if isinstance(value, datetime) else value),
        Note(allowed="now, oldest, bookmark:NAME, binlog.000042:1187, a GTID set, an ISO time"),
    ] = Field(default="now", description="Where the tail starts if there is no stored position.")
    include: Annotated[Tables, Note(example="shop.*,treehole.holes")] = Field(
        default=(), description="Tables to capture. Default: all."
    )
    exclude: Tables = Field(default=(), description="Tables to exclude. Default: none.")
    snapshot: Literal["never", "when_needed", "initial"] = Field(
        default="never",
        description="When the tail publishes the existing rows of all captured tables into the stream (operation `r`). "
        "`never`: only on request (`binlogsync snapshot`). `when_needed`: also after an accepted gap. `initial`: also "
        "when a new stream begins.",
    )
    snapshot_keyless_rows: Annotated[int, Field(ge=0), Note(unit="rows")] = Field(
        default=1_000_000,
        description="Most rows of a table without a usable key that a snapshot publishes; all changes wait meanwhile. "
        "0 refuses all such tables.",
    )
    flush: Literal["interval", "eager"] = Field(
        default="interval",
        description="`interval`: changes are flushed after `flush_interval_s` or `flush_rows`. `eager`: at once, while "
        "the sinks are idle; changes that arrive meanwhile are the next flush. The audit log is always written in "
        "intervals.",
    )
    flush_interval_s: Annotated[Duration, Note(unit="seconds")] = Field(
        default=3.0, description="Maximum time from reading a change to its flush."
    )
    flush_rows: Count = Field(default=1024, description="Number of changes that triggers a flush.")
    bookmark_minutes: Annotated[Duration, Note(unit="minutes")] = Field(
        default=10.0, description="Time between two bookmarks, the positions at which a backfill can start."
    )
    bookmark_keep: Count = Field(default=1000, description="Number of bookmarks to keep, not counting pinned ones.")
    bookmark_keep_days: Annotated[Duration, Note(unit="days")] = Field(
        default=30.0, description="How long bookmarks are kept."
    )


class DagsterSection(Section):
    """The Dagster project. Only `consumers` matters to the command line too."""

    consumers: Annotated[str, Note(allowed="package")] = Field(
        default="pipelines.consumers",
        description="The package of this project's consumers; all of its modules are loaded.",
    )
    sensors: Annotated[bool, BeforeValidator(_to_switch), Note(allowed="running or stopped")] = Field(
        default=False,
        description="`running` switches the sensors on by default; otherwise switch them on in the UI, under "
        "Automation.",
    )
    consume: Literal["on_backlog", "continuous"] = Field(
        default="on_backlog",
        description="How consumers run. `on_backlog`: a sensor starts a run when messages wait, and the run ends when "
        "no more arrive. `continuous`: one run per source keeps all its consumers live, and a sensor keeps it alive.",
    )
    shift_s: Annotated[Duration, Note(unit="seconds")] = Field(
        default=6 * 3600.0,
        description="Length of a run of the tail, and of a continuous run of consumers; the sensor then starts the "
        "next one.",
    )
    table_report_s: Annotated[Duration, Note(unit="seconds")] = Field(
        default=600.0,
        description="Time between two materializations of a table by a continuous run, while the table changes.",
    )
    report_s: Annotated[Duration, Note(unit="seconds")] = Field(
        default=30.0, description="Time between two observations of the binlog asset."
    )
    table_lists: File = Field(
        default=".binlogsync/tables",
        description="Folder of the lists of tables, one JSON file per source, which the tail writes; patterns of "
        "mirrors are resolved from them when the definitions are loaded.",
    )
    show_values: bool = Field(
        default=False,
        description="Show row values in Dagster (first rows of a table, key of a failed change). They are then stored "
        "in its event log, visible to all users of the UI. Messages of exceptions that handlers raise are always "
        "shown.",
    )


class SourceSection(Section):
    """A source other than the first."""

    mysql: MySQLSection = MySQLSection()


class SettingsModel(BaseSettings):
    """The deployment: its sources, and the code that decodes them."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False, validate_default=False
    )
    prefix: ClassVar[str] = ""
    source: Annotated[
        tuple[str, ...],
        BeforeValidator(split_names),
        AfterValidator(_check_sources),
        Note(allowed="names separated by commas: lower-case letters, digits, _ and -"),
    ] = Field(("main",), description="Names of the sources. A name is part of stream, tags and asset keys.")
    kernels: Annotated[Literal["fast", "public"], Note(is_process_wide=True)] = Field(
        default="fast",
        description="How the decoding kernels are compiled: `public` uses only public APIs of numba, and takes three "
        "times as long when it runs first; for a version of numba that `fast` does not support. Python programs that "
        "import the library set it in the environment of the process.",
    )
    mysql: MySQLSection = MySQLSection()
    sources: dict[str, SourceSection] = Field(default={}, description="The sources other than the first, by name.")
    nats: NatsSection = NatsSection()
    stream: StreamSection = StreamSection()
    positions: PositionsSection = PositionsSection()
    redis: RedisSection = RedisSection()
    warehouse: WarehouseSection = WarehouseSection()
    load: LoadSection = LoadSection()
    audit: AuditSection = AuditSection()
    tail: TailSection = TailSection()
    dagster: DagsterSection = DagsterSection()

    @classmethod
    def from_layers(cls, layers: Sequence[dict[str, Any]]) -> SettingsModel:
        """The model of nested values, of which the first wins. Raises pydantic.ValidationError."""
        arguments: dict[str, Any] = {"layers": layers}  # no field, but what `settings_customise_sources` reads
        return cls(**arguments)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers given to `from_layers`, instead of the sources of pydantic-settings, which cannot name the line
        of a file."""
        assert isinstance(init_settings, InitSettingsSource)
        return tuple(InitSettingsSource(settings_cls, layer) for layer in init_settings.init_kwargs["layers"])
