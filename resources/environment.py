"""Fields of resources from environment variables, with defaults where nothing is set.

A variable that is set becomes a `dg.EnvVar`: its value is read when a run or a tick needs it, and the UI shows the
name only. One that is not set becomes the default, so that definitions load, and runs start, with an empty
environment.
"""

import os

import dagster as dg

from binlogsync.errors import ConfigError

_YES = frozenset({"1", "true", "yes", "on", "running"})
_NO = frozenset({"0", "false", "no", "off", "stopped"})


def text(name: str, default: str) -> str:
    """A text field."""
    return dg.EnvVar(name) if os.environ.get(name) else default


def optional_text(name: str) -> str | None:
    """A text field that may be left out."""
    return dg.EnvVar(name) if os.environ.get(name) else None


def integer(name: str, default: int) -> int:
    """A number.

    Dagster takes an `EnvVar.int` for 0 until a run resolves it, and leaves out a field that equals its default: where
    the default is 0 the number is read at once.
    """
    if not os.environ.get(name):
        return default
    return dg.EnvVar.int(name) if default else int(os.environ[name])


def optional_integer(name: str) -> int | None:
    """A number that may be left out."""
    return dg.EnvVar.int(name) if os.environ.get(name) else None


def value(name: str, default: str) -> str:
    """A text that shapes the definitions, so that it is read at once."""
    return os.environ.get(name) or default


def switch(name: str, default: bool) -> bool:
    """A choice that shapes the definitions, so that it is read at once; raises ConfigError for any other word."""
    value = os.environ.get(name, "").strip().lower()
    if value and value not in _YES | _NO:
        raise ConfigError(f"{name}={value!r}: write 1, yes or running, or 0, no or stopped")
    return value in _YES if value else default
