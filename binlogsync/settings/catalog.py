"""Every setting of the model with its names: the variable and the key in binlogsync.toml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from binlogsync.settings.model import MySQLSection, Note, Section, SettingsModel, source_key

PREFIX = "BINLOGSYNC_"
Path = tuple[str, ...]
"""Names of the sections that contain a field, and its own."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        path: where it is in the model.
        variable: name of the environment variable.
        field: type, limits, default and description.
    """

    path: Path
    variable: str
    field: FieldInfo

    @property
    def key(self) -> str:
        """The key in binlogsync.toml, such as `mysql.host`."""
        return ".".join(self.path)

    @cached_property
    def note(self) -> Note:
        """What pydantic cannot express; of several, the last one that the declaration sets counts."""
        found = Note()
        for note in self.field.metadata:
            if isinstance(note, Note):
                found = replace(found, **{name: value for name in Note.__slots__ if (value := getattr(note, name))})
        return found

    @cached_property
    def type(self) -> Any:
        """The type, without None."""
        parts = get_args(self.field.annotation)
        return parts[0] if type(None) in parts else self.field.annotation

    @property
    def is_secret(self) -> bool:
        """True if the value must not be shown."""
        return self.type is SecretStr

    @property
    def default(self) -> Any:
        """The value if nothing sets it."""
        return self.field.get_default()

    @property
    def help(self) -> str:
        """Meaning and allowed values, as plain text."""
        meaning = (self.field.description or "").replace("`", "")
        return meaning if self.allowed in ("text", "path") else f"{meaning} Allowed: {self.allowed}."

    def secret_in(self, value: Any) -> str | None:
        """A value of the model as text if it is a secret, or an address that may contain one; None otherwise."""
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        return value if self.note.has_logins and "@" in value else None

    @cached_property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.note.allowed:
            return self.note.allowed
        if get_origin(self.type) is Literal:
            return ", ".join(get_args(self.type))
        if self.type is bool:
            return "yes or no"
        if self.type not in (int, float):
            return "text"
        low = next(limit.ge for limit in self.field.metadata if isinstance(limit, Ge))
        high = next((limit.le for limit in self.field.metadata if isinstance(limit, Le)), None)
        number = "whole number" if self.type is int else "number"
        limits = f"at least {low}" if high is None else f"{low} to {high}"
        return f"{number}{f' of {self.note.unit}' if self.note.unit else ''}, {limits}"


def list_settings(sources: Sequence[str] = ()) -> Iterator[Setting]:
    """All settings, with those of the sources that follow the first one."""
    yield from _settings_of(SettingsModel, (), PREFIX)
    for name in sources[1:]:
        prefix = f"{PREFIX}{source_key(name).upper()}_{MySQLSection.prefix}"
        yield from _settings_of(MySQLSection, ("sources", name, "mysql"), prefix)


def _settings_of(model: type[BaseModel], path: Path, prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield from _settings_of(section, (*path, name), f"{PREFIX}{section.prefix}")
        elif name != "sources":
            setting = Setting((*path, name), f"{prefix}{name.upper()}", field)
            own = setting.note.variable
            yield replace(setting, variable=f"{PREFIX}{own}") if own else setting
