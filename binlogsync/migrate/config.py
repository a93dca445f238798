"""Converts the JSON configuration of the Go tool that this project re-implements to lines of a `.env`. Pure.

The result for each key is a variable, or the reason why there is none; unknown keys too. No reason contains a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from binlogsync.errors import ConfigError

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
_VARIABLES = {
    "mysql.host": "BINLOGSYNC_MYSQL_HOST",
    "mysql.port": "BINLOGSYNC_MYSQL_PORT",
    "mysql.username": "BINLOGSYNC_MYSQL_USER",
    "mysql.password": "BINLOGSYNC_MYSQL_PASSWORD",
    "redis.host": "BINLOGSYNC_REDIS_HOST",
    "redis.port": "BINLOGSYNC_REDIS_PORT",
    "redis.password": "BINLOGSYNC_REDIS_PASSWORD",
}
_NOT_MAPPED = {
    "version": "it is the version of the file format",
    "bolt.bucket": "SQLite replaces bolt, and has no buckets",
    "storage.poskey": "positions are stored under the source's name; import the old one with: redis-cli --raw get "
    "{value} | binlogsync bookmarks import -",
    "stan.clusterid": "JetStream has no cluster id: the address identifies the cluster",
    "stan.clientid": "the lease identifies the tail, and a client_id each consumer",
}
_DAOS = {"redis": "redis", "bolt": "sqlite", "boltdb": "sqlite", "sqlite": "sqlite"}
_QUEUES = {"stan", "nats", "nats-streaming", "natsstreaming", "jetstream"}


@dataclass(frozen=True, slots=True)
class MappedKey:
    """The result for one key: `variable` and `value` if it is mapped; `note`: a remark, or why it is not mapped."""

    key: str
    note: str
    variable: str = ""
    value: str = ""

    def __str__(self) -> str:
        return (
            f"{self.key} -> {self.variable}{f' ({self.note})' if self.note else ''}"
            if self.variable
            else (f"{self.key}: not mapped: {self.note}")
        )


def read_config(text: str) -> list[MappedKey]:
    """The result for each key, in the order of the file. Raises ConfigError for another kind of file."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from error
    if not isinstance(document, Mapping) or "mysql" not in {str(name).lower() for name in document}:
        raise ConfigError("this is not a configuration of that tool: it has no section Mysql {Host, Port, ...}")
    return [mapped for key, value in _flatten("", document) for mapped in _map_key(key, value, document)]


def to_dotenv(keys: list[MappedKey]) -> str:
    """The text of a `.env` with the mapped keys."""
    return "".join(f"{key.variable}={_quote(key.value)}\n" for key in keys if key.variable)


def _flatten(prefix: str, document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flatten(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _map_key(key: str, value: Any, document: Mapping[str, Any]) -> Iterator[MappedKey]:
    low, text = key.lower(), "" if value is None else str(value)
    if low in _VARIABLES:
        yield MappedKey(key, "" if text else "it is empty, like the default", _VARIABLES[low] if text else "", text)
    elif low in _NOT_MAPPED:
        yield MappedKey(key, _NOT_MAPPED[low].format(value=text or "KEY"))
    elif low == "storage.daoname":
        yield _map_store(key, text)
    elif low == "bolt.file":
        path = str(PurePosixPath(text).with_name("positions.db")) if text else ".binlogsync/positions.db"
        yield MappedKey(
            key,
            "the bolt file is not read; SQLite uses a new file in the same folder",
            "BINLOGSYNC_POSITIONS_PATH",
            path,
        )
    elif low == "mqname":
        known = text.lower() in _QUEUES
        unknown = f"{text!r} is unknown here; changes go to NATS JetStream"
        yield MappedKey(key, "changes go to NATS JetStream, stan's successor" if known else unknown)
    elif low == "stan.host":
        note = "the server must be nats-server 2.12 or newer with JetStream; stan is not supported"
        yield MappedKey(key, note, "BINLOGSYNC_NATS_URL", f"nats://{text or '127.0.0.1'}:{_port(document)}")
    elif low == "stan.port":
        yield MappedKey(key, "it is part of BINLOGSYNC_NATS_URL")
    else:
        yield MappedKey(key, "there is no corresponding setting")


def _map_store(key: str, text: str) -> MappedKey:
    kind = _DAOS.get(text.lower())
    if kind is None:
        return MappedKey(
            key, f"{text!r} is unknown here; positions are stored in SQLite; for Redis set BINLOGSYNC_POSITIONS=redis"
        )
    return MappedKey(key, "SQLite replaces bolt" if kind == "sqlite" else "", "BINLOGSYNC_POSITIONS", kind)


def _port(document: Mapping[str, Any]) -> str:
    found = dict((key.lower(), value) for key, value in _flatten("", document))
    return str(found.get("stan.port") or 4222)


def _quote(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if "\n" in value or "\r" in value or "${" in value:
        raise ConfigError("a value with a line break, or with ${, cannot be written to a .env file; set it manually")
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
