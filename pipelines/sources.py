"""Settings per deployment: the sources and the defaults of the tail. Read once, when the definitions load.

    BINLOGSYNC_SOURCE        name of the source, default "main"; several names are separated by commas
    BINLOGSYNC_CONSUMERS     package that contains the consumers, default "pipelines.consumers"
    BINLOGSYNC_SENSORS       "running" switches the sensors on; by default they are switched on in the UI
    BINLOGSYNC_START, _INCLUDE, _EXCLUDE, _FLUSH_INTERVAL_S, _FLUSH_ROWS, _SHIFT_S, _REPORT_S,
    BINLOGSYNC_BOOKMARK_MINUTES, _BOOKMARK_KEEP, _BOOKMARK_KEEP_DAYS
                             defaults of the tail's options, for all sources; the Launchpad shows and overrides them

The first source is configured by BINLOGSYNC_MYSQL_HOST and so on, another source, for example "eu", by
BINLOGSYNC_EU_MYSQL_HOST and so on.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from binlogsync.codec.subjects import check_source
from binlogsync.errors import ConfigError
from binlogsync.variables import check_variables
from pipelines.keys import safe_part
from pipelines.tail import TailConfig


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One source.

    Attributes:
        name: name of the source in streams, tags and asset keys.
        mysql_key: resource key of its MySQLSource.
        prefix: prefix of its environment variables.
    """

    name: str
    mysql_key: str
    prefix: str


def configured_sources(environment: Mapping[str, str] = os.environ) -> tuple[SourceSettings, ...]:
    """The configured sources. Raises ConfigError for an invalid or duplicate name, and for an unknown variable."""
    names = [name.strip() for name in (environment.get("BINLOGSYNC_SOURCE") or "main").split(",") if name.strip()]
    keys = [safe_part(check_source(name)) for name in names]
    if not names or len(set(keys)) != len(keys):
        raise ConfigError(
            f"BINLOGSYNC_SOURCE={','.join(names)}: name at least one source, and each only once (- equals _)"
        )
    check_variables(environment, names)
    first = SourceSettings(names[0], "mysql", "BINLOGSYNC_MYSQL")
    return (
        first,
        *(
            SourceSettings(name, f"mysql_{key}", f"BINLOGSYNC_{key.upper()}_MYSQL")
            for name, key in zip(names[1:], keys[1:], strict=True)
        ),
    )


_NUMBERS: tuple[tuple[str, type[int] | type[float]], ...] = (
    ("flush_interval_s", float),
    ("flush_rows", int),
    ("shift_s", float),
    ("report_s", float),
    ("bookmark_minutes", float),
    ("bookmark_keep", int),
    ("bookmark_keep_days", float),
)


def default_source() -> str:
    """The source of a consumer without an explicit source: the first one."""
    return configured_sources()[0].name


def tail_config(environment: Mapping[str, str] = os.environ) -> TailConfig:
    """Options of the tail from the environment. Raises ConfigError for an invalid number."""
    values: dict[str, Any] = {}
    if start := environment.get("BINLOGSYNC_START"):
        values["start"] = start
    for name in ("include", "exclude"):
        if tables := environment.get(f"BINLOGSYNC_{name.upper()}"):
            values[name] = [table.strip() for table in tables.split(",") if table.strip()]
    for name, kind in _NUMBERS:
        variable = f"BINLOGSYNC_{name.upper()}"
        if text := environment.get(variable):
            try:
                values[name] = kind(text)
            except ValueError as error:
                raise ConfigError(f"{variable}={text!r} is not a number") from error
    return TailConfig(**values)
