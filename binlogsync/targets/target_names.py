"""Patterns of the names of mirrors in their target: text with {source}, {database} and {table}; {{ is a brace."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from binlogsync.errors import ConfigError

DATABASE, TABLE = "{database}", "{table}"
PLACEHOLDERS = ("source", "database", "table")


def check_pattern(option: str, pattern: str) -> None:
    """Raise ConfigError unless the pattern of this option has known placeholders only."""
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ConfigError(f"{option}={pattern!r} is not a pattern ({error}); write {{{{ for a brace") from error
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    for _, name, spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or spec or conversion):
            shown = f"{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}"
            raise ConfigError(f"{option}={pattern!r} has an unknown placeholder {{{shown}}}; known ones: {known}")
    if not pattern:
        raise ConfigError(f"{option} is empty; write a name, or a pattern of {known}")


def fill_pattern(option: str, pattern: str, names: Mapping[str, str]) -> str:
    """The name of one mirror. Raises ConfigError if it is empty."""
    if not (found := pattern.format_map(names)):
        raise ConfigError(f"{option}={pattern!r} gives an empty name for {names['database']}.{names['table']}")
    return found
