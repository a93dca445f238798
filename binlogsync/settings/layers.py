"""Where settings are set: the environment, `.env` and binlogsync.toml, of which the first wins.

`.env` has the syntax and the meaning that `dagster dev` gives it, because python-dotenv reads it there too: comments,
quotes, values of several lines, and `${NAME}` or `${NAME:-default}`, which is replaced in every value, also in single
quotes. Where python-dotenv would silently ignore a line, or replace a name that is not set by nothing, reading fails.
No error contains a value.
"""

from __future__ import annotations

import io
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream
from dotenv.variables import Variable, parse_variables

from binlogsync.errors import ConfigError
from binlogsync.settings.catalog import PREFIX

ENVIRONMENT, DOTENV, TOML = "the environment", ".env", "binlogsync.toml"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One value as it was written.

    Attributes:
        name: the variable, or the key of binlogsync.toml with its tables.
        value: a text, or what TOML allows.
        layer: ENVIRONMENT, DOTENV or TOML.
        where: the environment, the file and line, or the file.
    """

    name: str
    value: Any = field(repr=False)  # it may be a secret
    layer: str
    where: str


@dataclass(frozen=True, slots=True)
class Layer:
    """All values of the environment or of a file, empty ones included.

    Attributes:
        where: the environment, or the path of the file.
        assignments: by variable, or by key of binlogsync.toml with its tables.
    """

    where: str
    assignments: Mapping[str, Assignment]

    def text(self, name: str) -> Any:
        """The value of a name, None if it is not set."""
        return found.value if (found := self.assignments.get(name)) is not None else None


def read_environment(environment: Mapping[str, str]) -> Layer:
    """The variables with our prefix, in any case."""
    ours = {name: value for name, value in environment.items() if is_ours(name)}
    return Layer(ENVIRONMENT, {name: Assignment(name, value, ENVIRONMENT, ENVIRONMENT) for name, value in ours.items()})


def is_ours(name: str) -> bool:
    """True if a variable has our prefix, in any case."""
    return name.upper().startswith(PREFIX)


def read_dotenv(path: Path, environment: Mapping[str, str]) -> Layer:
    """The variables of a `.env` with our prefix; the last of a repeated name counts. Raises ConfigError."""
    values: dict[str, str | None] = {}
    found: dict[str, Assignment] = {}
    for binding in parse_stream(io.StringIO(_read(path))):
        where = f"{path}, line {_line(binding)}"
        if binding.error:
            raise ConfigError(f"{where}: neither NAME=value nor a comment; check its quotes")
        if (name := binding.key) is None:
            continue
        if binding.value is None and is_ours(name):
            raise ConfigError(f"{where}: {name} has no value; write {name}=value")
        values[name] = _expand(name, binding.value or "", {**environment, **values}, where)
        if is_ours(name):
            found[name] = Assignment(name, values[name], DOTENV, where)
    return Layer(str(path), found)


def _expand(name: str, written: str, known: Mapping[str, str | None], where: str) -> str:
    """The value with its references replaced."""
    atoms = list(parse_variables(written))
    for atom in atoms:
        if isinstance(atom, Variable) and is_ours(name) and atom.default is None and atom.name not in known:
            raise ConfigError(
                f"{where}: {name} refers to a variable that is not set: ${{...}} is replaced by the value of that "
                "name. Set it above, give it a default (${NAME:-default}), or, if the value itself contains ${, set "
                f"{name} in binlogsync.toml"
            )
    return "".join(atom.resolve(known) for atom in atoms)


def _line(binding: Binding) -> int:
    """The line of the name: a binding begins with the blank lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def read_toml(path: Path, tables: frozenset[str]) -> Layer:
    """The keys of a TOML file, each with its tables; `tables` are the known tables. Raises ConfigError."""
    try:
        document = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    flat = {name: Assignment(name, value, TOML, str(path)) for name, value in _flatten("", document, tables)}
    return Layer(str(path), flat)


def _flatten(prefix: str, table: Mapping[str, Any], tables: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key in tables:
            yield from _flatten(f"{key}.", value, tables)
        else:
            yield key, value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        # The text of a UnicodeDecodeError contains bytes of the file.
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path} cannot be read: {problem}; fix it, or remove it") from None


def first_value(layers: Sequence[Layer], names: Sequence[str]) -> Any:
    """The value in the first layer that sets one of the names to something; None if none does."""
    values = (layer.text(name) for layer in layers for name in names)
    return next((value for value in values if value not in (None, "")), None)
