"""Resource fields from environment variables, with defaults.

A variable that is set becomes a `dg.EnvVar`: Dagster reads its value when it initializes the resource, and the UI shows
only its name. A variable that is not set becomes the default, so definitions load with an empty environment.
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
    """An optional text field."""
    return dg.EnvVar(name) if os.environ.get(name) else None


def integer(name: str, default: int) -> int:
    """An integer field.

    Dagster treats an unresolved `EnvVar.int` as 0 and omits fields that equal their default. So if the default is 0,
    the value is read immediately.
    """
    if not os.environ.get(name):
        return default
    return dg.EnvVar.int(name) if default else int(os.environ[name])


def optional_integer(name: str) -> int | None:
    """An optional integer field."""
    return dg.EnvVar.int(name) if os.environ.get(name) else None


def value(name: str, default: str) -> str:
    """A text that the definitions depend on, so it is read immediately."""
    return os.environ.get(name) or default


def switch(name: str, default: bool) -> bool:
    """A boolean that the definitions depend on, so it is read immediately. Raises ConfigError for an invalid value."""
    value = os.environ.get(name, "").strip().lower()
    if value and value not in _YES | _NO:
        raise ConfigError(f"{name}={value!r}: use 1, yes or running, or 0, no or stopped")
    return value in _YES if value else default
