"""The resources of this deployment: one per system, with fields from BINLOGSYNC_* variables."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from binlogsync.errors import ConfigError
from dagster_binlogsync.resources.audit import AuditLog
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.mysql import MySQLSource
from dagster_binlogsync.resources.positions import (
    NatsPositionsConfig,
    Positions,
    RedisPositionsConfig,
    SQLitePositionsConfig,
)
from dagster_binlogsync.resources.warehouse import Warehouse
from resources.environment import integer, optional_integer, optional_text, switch, text
from resources.sources import SourceSettings


def configured_resources(sources: Sequence[SourceSettings]) -> Mapping[str, Any]:
    """The resources by key: one MySQLSource per source, and those that all sources share. Raises ConfigError."""
    return {
        **{source.mysql_key: configured_mysql(source.prefix) for source in sources},
        "jetstream": configured_jetstream(),
        "positions": configured_positions(),
        "audit": AuditLog(path=text("BINLOGSYNC_AUDIT_PATH", "off")),
        "warehouse": Warehouse(
            path=text("BINLOGSYNC_WAREHOUSE_PATH", ".binlogsync/warehouse.duckdb"),
            show_values=switch("BINLOGSYNC_SHOW_VALUES", False),
        ),
    }


def configured_mysql(prefix: str = "BINLOGSYNC_MYSQL") -> MySQLSource:
    """From <prefix>_HOST, _PORT, _USER, _PASSWORD, _SOCKET, _TLS (the mode), _TLS_CA_FILE, ..., _SERVER_ID."""
    return MySQLSource(
        host=text(f"{prefix}_HOST", "127.0.0.1"),
        port=integer(f"{prefix}_PORT", 3306),
        user=text(f"{prefix}_USER", "binlogsync"),
        password=text(f"{prefix}_PASSWORD", ""),
        unix_socket=optional_text(f"{prefix}_SOCKET"),
        tls_mode=text(f"{prefix}_TLS", "preferred"),
        tls_ca_file=optional_text(f"{prefix}_TLS_CA_FILE"),
        tls_cert_file=optional_text(f"{prefix}_TLS_CERT_FILE"),
        tls_key_file=optional_text(f"{prefix}_TLS_KEY_FILE"),
        public_key_file=optional_text(f"{prefix}_PUBLIC_KEY_FILE"),
        server_id=optional_integer(f"{prefix}_SERVER_ID"),
    )


def configured_jetstream() -> JetStream:
    """From BINLOGSYNC_NATS_URL, _USER and so on, and BINLOGSYNC_STREAM_REPLICAS, _MAX_AGE_DAYS and so on."""
    return JetStream(
        **_nats_connection(),
        replicas=integer("BINLOGSYNC_STREAM_REPLICAS", 1),
        max_age_days=integer("BINLOGSYNC_STREAM_MAX_AGE_DAYS", 7),
        max_bytes=integer("BINLOGSYNC_STREAM_MAX_BYTES", 0) or None,
        format=text("BINLOGSYNC_STREAM_FORMAT", "json"),
        changes_per_message=integer("BINLOGSYNC_STREAM_CHANGES_PER_MESSAGE", 1),
    )


def configured_positions() -> Positions:
    """The store selected by BINLOGSYNC_POSITIONS: sqlite (default), redis or nats. Raises ConfigError otherwise."""
    kind = os.environ.get("BINLOGSYNC_POSITIONS") or "sqlite"
    if kind == "sqlite":
        path = text("BINLOGSYNC_POSITIONS_PATH", ".binlogsync/positions.db")
        return Positions(backend=SQLitePositionsConfig(path=path))
    if kind == "nats":
        return Positions(backend=NatsPositionsConfig(**_nats_connection()))
    if kind != "redis":
        raise ConfigError(f"BINLOGSYNC_POSITIONS={kind!r}: use sqlite, redis or nats")
    return Positions(
        backend=RedisPositionsConfig(
            host=text("BINLOGSYNC_REDIS_HOST", "127.0.0.1"),
            port=integer("BINLOGSYNC_REDIS_PORT", 6379),
            database=integer("BINLOGSYNC_REDIS_DATABASE", 0),
            username=optional_text("BINLOGSYNC_REDIS_USER"),
            password=optional_text("BINLOGSYNC_REDIS_PASSWORD"),
            tls=switch("BINLOGSYNC_REDIS_TLS", False),
            tls_ca_file=optional_text("BINLOGSYNC_REDIS_TLS_CA_FILE"),
            tls_cert_file=optional_text("BINLOGSYNC_REDIS_TLS_CERT_FILE"),
            tls_key_file=optional_text("BINLOGSYNC_REDIS_TLS_KEY_FILE"),
        )
    )


def _nats_connection() -> dict[str, Any]:
    """Connection settings of NATS, for the stream and for the position store."""
    optional = ["user", "password", "token", "credentials_file", "nkey_seed_file"]
    optional += ["tls_ca_file", "tls_cert_file", "tls_key_file"]
    return {
        "url": text("BINLOGSYNC_NATS_URL", "nats://127.0.0.1:4222"),
        **{name: optional_text(f"BINLOGSYNC_NATS_{name.upper()}") for name in optional},
    }
