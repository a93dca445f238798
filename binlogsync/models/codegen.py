"""Generates the Python source of a model from a table: the output of `binlogsync models`. Pure.

Each column becomes a field with a type for all its values, in the order of the table, with the column's declaration as
a comment. A name that is not valid for a field is renamed if the kind of model supports it (msgspec, pydantic);
otherwise the column is omitted with a comment.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pydantic

from binlogsync.errors import ConfigError
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column, TableSchema

Kind = Literal["dataclass", "msgspec", "pydantic"]
_TYPES = {
    "decimal": "decimal.Decimal",
    "float": "float",
    "double": "float",
    "date": "datetime.date",
    "datetime": "datetime.datetime",
    "timestamp": "datetime.datetime",
    "time": "datetime.timedelta",
    "year": "int",
    "enum": "str",
    "set": "frozenset[str]",
    "json": "typing.Any",
    "vector": "list[float]",
}
_MODULES = ("datetime", "decimal", "typing")
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class _Field:
    """A column as a field: `name` is None if it cannot be a field; `rename` is True if the column has another name."""

    column: Column
    name: str | None
    type: str
    rename: bool

    @property
    def comment(self) -> str:
        declared = self.column.declaration
        return declared if len(declared) <= _LONGEST else declared[: _LONGEST - 1] + "…"


def model_source(schema: TableSchema, kind: Kind = "dataclass") -> str:
    """The source of a module with one class. Raises ConfigError for a table without columns."""
    fields = [_field(column, kind) for column in schema.columns]
    if not any(field.name for field in fields):
        raise ConfigError(f"{schema.name} has no column that can be a field")
    body = "\n".join(_class(schema, fields, kind))
    used = [module for module in _MODULES if any(f"{module}." in field.type for field in fields if field.name)]
    standard = [f"import {module}" for module in used]
    if kind == "dataclass":
        standard.append("from dataclasses import dataclass")
    other = [] if kind == "dataclass" else [f"import {kind}"]
    head = "\n\n".join("\n".join(lines) for lines in (standard, other) if lines)
    return f"{head}\n\n\n{body}\n"


def class_name(table: str) -> str:
    """The class name for a table: OrderItem for order_items."""
    words = [word for word in re.split(r"\W+|_+", table) if word]
    name = "".join(word[:1].upper() + word[1:] for word in [*words[:-1], _singular(words[-1])]) if words else "Row"
    name = name if name.isidentifier() else f"T{name}"
    return f"{name}Row" if hasattr(builtins, name) or keyword.iskeyword(name) or name in ("Field", "Any") else name


def _singular(word: str) -> str:
    if re.search(r"[^aeiou]ies$", word):
        return word[:-3] + "y"
    if re.search(r"(s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^su]s$", word) else word


def _field(column: Column, kind: Kind) -> _Field:
    plain = _type(column)
    text = f"{plain} | None" if column.nullable and plain != "typing.Any" else plain
    if _is_name(column.name, kind):
        return _Field(column, column.name, text, rename=False)
    if kind == "dataclass":
        return _Field(column, None, text, rename=False)
    name = re.sub(r"\W", "_", column.name).strip("_") or "column"
    name = f"c_{name}" if not name.isidentifier() else name
    return _Field(column, name if _is_name(name, kind) else f"{name}_", text, rename=True)


def _is_name(name: str, kind: Kind) -> bool:
    """Whether a field may have that name."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
        return False
    if name in (*_MODULES, *_BUILTINS, kind):
        return False
    return kind != "pydantic" or not (name.startswith("_") or hasattr(pydantic.BaseModel, name))


_BUILTINS = frozenset({"int", "str", "bytes", "float", "bool", "list", "dict", "frozenset", "None"})


def _type(column: Column) -> str:
    kind = column.type
    if kind in INTEGER_BITS:
        return "int"
    if kind == "bit":
        return "bool" if column.length == 1 else "int"
    if kind in TEXT_TYPES or kind in ADDRESS_TYPES:
        return "str"
    if kind in GEOMETRY_TYPES:
        return "dict[str, typing.Any]"
    return "bytes" if kind in BINARY_TYPES else _TYPES[kind]


def _class(schema: TableSchema, fields: list[_Field], kind: Kind) -> Iterator[str]:
    if kind == "dataclass":
        yield "@dataclass(frozen=True, slots=True)"
    base = {"dataclass": "", "msgspec": "(msgspec.Struct, frozen=True)", "pydantic": "(pydantic.BaseModel)"}[kind]
    key = f", primary key {', '.join(schema.primary_key)}" if schema.primary_key else ", no primary key"
    yield f"class {class_name(schema.table)}{base}:"
    yield f'    """A row of {_quoted(schema.name)}{_quoted(key)}."""'
    yield ""
    if kind == "pydantic":
        yield "    model_config = pydantic.ConfigDict(frozen=True, protected_namespaces=())"
    yield f"    __tablename__ = {_literal(schema.name)}"
    yield ""
    for field in fields:
        if field.name is None:
            yield f"    # {field.column.name!r} ({field.comment}) cannot be a field here; --kind msgspec renames it"
            continue
        default = "" if not field.rename else _renamed(field, kind)
        yield f"    {field.name}: {field.type}{default}  # {field.comment}"


def _renamed(field: _Field, kind: Kind) -> str:
    call = "msgspec.field(name" if kind == "msgspec" else "pydantic.Field(alias"
    return f" = {call}={_literal(field.column.name)})"


def _literal(text: str) -> str:
    """A string in Python source, in double quotes if possible."""
    shown = repr(text)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown else shown


def _quoted(text: str) -> str:
    """Text escaped for a docstring."""
    return text.replace("\\", "\\\\").replace('"', "'")
