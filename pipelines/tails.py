"""Defaults of the options of the tails, for all sources; the Launchpad shows and overrides them.

BINLOGSYNC_START, _INCLUDE, _EXCLUDE, _FLUSH_INTERVAL_S, _FLUSH_ROWS, _SHIFT_S, _REPORT_S,
BINLOGSYNC_BOOKMARK_MINUTES, _BOOKMARK_KEEP, _BOOKMARK_KEEP_DAYS
"""

import os
from collections.abc import Mapping
from typing import Any

from binlogsync.errors import ConfigError
from dagster_binlogsync.tail.job import TailConfig

_NUMBERS: tuple[tuple[str, type[int] | type[float]], ...] = (
    ("flush_interval_s", float),
    ("flush_rows", int),
    ("shift_s", float),
    ("report_s", float),
    ("bookmark_minutes", float),
    ("bookmark_keep", int),
    ("bookmark_keep_days", float),
)


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
