"""The JSON configuration of the Go tool that this project re-implements, as lines of a `.env`. Pure.

Each key is mapped, or told why not; so is one that nobody knows. No secret is in what is told.
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
    "version": "it is the version of that file's format",
    "bolt.bucket": "the SQLite file that takes the place of bolt has tables of its own",
    "storage.poskey": "positions are kept under the source's name; bring the old one over with: redis-cli --raw get "
    "{value} | binlogsync bookmarks import -",
    "stan.clusterid": "JetStream knows no cluster id: the address leads to the cluster",
    "stan.clientid": "the tail is known by its lease; each consumer has a client_id of its own",
}
_DAOS = {"redis": "redis", "bolt": "sqlite", "boltdb": "sqlite", "sqlite": "sqlite"}
_QUEUES = {"stan", "nats", "nats-streaming", "natsstreaming", "jetstream"}


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one key: `variable` and `value` where it is mapped, else only what is told."""

    key: str
    told: str
    variable: str = ""
    value: str = ""

    def __str__(self) -> str:
        return (
            f"{self.key} -> {self.variable}{f' ({self.told})' if self.told else ''}"
            if self.variable
            else (f"{self.key}: not carried over: {self.told}")
        )


def read_config(text: str) -> list[Line]:
    """What becomes of each key, in the order of the file. Raises ConfigError for what is no such configuration."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from error
    if not isinstance(document, Mapping) or "mysql" not in {str(name).lower() for name in document}:
        raise ConfigError("this is no configuration of that tool: it has no section Mysql {Host, Port, ...}")
    return [line for key, value in _flat("", document) for line in _lines(key, value, document)]


def to_dotenv(lines: list[Line]) -> str:
    """The text of a `.env` that says the same."""
    return "".join(f"{line.variable}={_quoted(line.value)}\n" for line in lines if line.variable)


def _flat(prefix: str, document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _lines(key: str, value: Any, document: Mapping[str, Any]) -> Iterator[Line]:
    low, text = key.lower(), "" if value is None else str(value)
    if low in _VARIABLES:
        yield Line(key, "" if text else "it is empty, as the default is", _VARIABLES[low] if text else "", text)
    elif low in _NOT_MAPPED:
        yield Line(key, _NOT_MAPPED[low].format(value=text or "KEY"))
    elif low == "storage.daoname":
        yield _store(key, text)
    elif low == "bolt.file":
        path = str(PurePosixPath(text).with_name("positions.db")) if text else ".binlogsync/positions.db"
        yield Line(key, "a bolt file is not read; SQLite has a new file beside it", "BINLOGSYNC_POSITIONS_PATH", path)
    elif low == "mqname":
        known = text.lower() in _QUEUES
        yield Line(key, "changes go to NATS JetStream, stan's successor" if known else f"{text!r} is unknown here; "
                   "changes go to NATS JetStream")  # fmt: skip
    elif low == "stan.host":
        told = "it has to be nats-server 2.12 or newer with JetStream; stan itself is not spoken any more"
        yield Line(key, told, "BINLOGSYNC_NATS_URL", f"nats://{text or '127.0.0.1'}:{_port(document)}")
    elif low == "stan.port":
        yield Line(key, "it is in BINLOGSYNC_NATS_URL")
    else:
        yield Line(key, "nothing here has that meaning")


def _store(key: str, text: str) -> Line:
    kind = _DAOS.get(text.lower())
    if kind is None:
        return Line(key, f"{text!r} is unknown here; positions go into SQLite, or write BINLOGSYNC_POSITIONS=redis")
    return Line(key, "SQLite takes the place of bolt" if kind == "sqlite" else "", "BINLOGSYNC_POSITIONS", kind)


def _port(document: Mapping[str, Any]) -> str:
    found = dict((key.lower(), value) for key, value in _flat("", document))
    return str(found.get("stan.port") or 4222)


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if "\n" in value or "\r" in value or "${" in value:
        raise ConfigError("a value with a line break, or with ${, cannot be written into a .env; set it by hand")
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
