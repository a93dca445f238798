"""The resources of a deployment, with fields from its settings.

A secret becomes a `dg.EnvVar`: Dagster reads its value when it initializes the resource, and the UI and the database
contain only its name. Other fields are values.
"""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from binlogsync.settings import Settings
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.audit import AuditLog
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.mysql import MySQLSource
from dagster_binlogsync.resources.positions import (
    ImportedPositionsConfig,
    NatsPositionsConfig,
    Positions,
    RedisPositionsConfig,
    SQLitePositionsConfig,
)
from dagster_binlogsync.resources.warehouse import Warehouse


def build_resources(settings: Settings, keys: Mapping[str, ResourceKeys]) -> dict[str, Any]:
    """The resources of each source of `keys`, under its keys; sources that have a key in common share the resource."""
    found: dict[str, Any] = {}
    for source, names in keys.items():
        found[names.mysql] = build_mysql(settings, source)
        found.setdefault(names.jetstream, build_jetstream(settings))
        found.setdefault(names.positions, build_positions(settings))
        found.setdefault(names.audit, build_audit(settings))
        found.setdefault(names.warehouse, build_warehouse(settings))
    return found


def build_mysql(settings: Settings, source: str | None = None) -> MySQLSource:
    """The server of a source, of the first when None. Raises ConfigError for a source that is not in the settings."""
    name = settings.source(source)
    fields = _fields(settings, *(() if name == settings.source() else ("sources", name)), "mysql")
    return MySQLSource(tls_mode=fields.pop("tls"), unix_socket=fields.pop("socket", None), **fields)


def build_jetstream(settings: Settings) -> JetStream:
    """NATS and the options of the stream."""
    return JetStream(**_fields(settings, "nats"), **_fields(settings, "stream"))


def build_warehouse(settings: Settings) -> Warehouse:
    """The DuckDB file of the mirrors."""
    return Warehouse(**_fields(settings, "warehouse"), show_values=settings.values.dagster.show_values)


def build_audit(settings: Settings) -> AuditLog:
    """The audit log."""
    return AuditLog(**_fields(settings, "audit"))


def build_positions(settings: Settings) -> Positions:
    """The position store."""
    kind = settings.values.positions.store
    if kind == "sqlite":
        return Positions(backend=SQLitePositionsConfig(path=settings.values.positions.path))
    if kind == "nats":
        return Positions(backend=NatsPositionsConfig(**_fields(settings, "nats")))
    if kind != "redis":
        return Positions(backend=ImportedPositionsConfig(reference=kind))
    fields = _fields(settings, "redis")
    return Positions(backend=RedisPositionsConfig(username=fields.pop("user", None), **fields))


def _fields(settings: Settings, *section: str) -> dict[str, Any]:
    """The settings of a section that have a value, by name."""
    found: dict[str, Any] = {}
    for setting, value in settings.items():
        if setting.path[:-1] != section or value is None:
            continue
        if (secret := setting.secret_in(value)) is not None:
            # Where the secret is in a file, Dagster finds it in the environment too.
            os.environ[setting.variable] = secret
            value = dg.EnvVar(setting.variable)
        found[setting.path[-1]] = value
    return found
