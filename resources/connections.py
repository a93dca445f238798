"""The resources of this deployment: one per system, with fields from its settings.

A secret becomes a `dg.EnvVar`: Dagster reads its value when it initializes the resource, and the UI and the database
contain only its name. Other fields are values.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from binlogsync.settings import Settings
from dagster_binlogsync.keys import safe_part
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


def mysql_keys(sources: Sequence[str]) -> Mapping[str, str]:
    """The resource key of the MySQLSource of each source."""
    return {name: f"mysql_{safe_part(name)}" if number else "mysql" for number, name in enumerate(sources)}


def configured_resources(settings: Settings) -> Mapping[str, Any]:
    """The resources by key: one MySQLSource per source, and those that all sources share."""
    return {
        **{key: configured_mysql(settings, source) for source, key in mysql_keys(settings.sources()).items()},
        "jetstream": JetStream(**_fields(settings, "nats"), **_fields(settings, "stream")),
        "positions": configured_positions(settings),
        "audit": AuditLog(**_fields(settings, "audit")),
        "warehouse": Warehouse(**_fields(settings, "warehouse"), show_values=settings.values.dagster.show_values),
    }


def configured_mysql(settings: Settings, source: str | None = None) -> MySQLSource:
    """The server of a source, of the first when None."""
    name = settings.source(source)
    fields = _fields(settings, *(() if name == settings.source() else ("sources", name)), "mysql")
    return MySQLSource(tls_mode=fields.pop("tls"), unix_socket=fields.pop("socket", None), **fields)


def configured_positions(settings: Settings) -> Positions:
    """The position store."""
    kind = settings.values.positions.store
    if kind == "sqlite":
        return Positions(backend=SQLitePositionsConfig(path=settings.values.positions.path))
    if kind == "nats":
        return Positions(backend=NatsPositionsConfig(**_fields(settings, "nats")))
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
