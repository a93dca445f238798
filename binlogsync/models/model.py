"""Rows as instances of the user's class: a dataclass, a msgspec.Struct or a pydantic model.

    class Hole(msgspec.Struct):         # table "holes"; or __tablename__ = "treehole.holes"
        id: int
        content: str | None

A class is compiled into a `Model` once, and a Model is checked against a TableSchema before the first row. A mismatch
is one error with field, column, both types and the fix, never a wrong value in some row. A column without a field is
ignored. Values are Python types: int, float, Decimal, str, bytes, date, datetime (aware UTC for TIMESTAMP, naive for
DATETIME), timedelta for TIME, list, set or frozenset for SET, bool for BIT(1), parsed JSON for a JSON column unless the
field is `str`, {"srid": int, "wkb": bytes} for GEOMETRY, list of float for VECTOR, str or ipaddress's and uuid's own
classes for MariaDB's INET4, INET6 and UUID.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from binlogsync.change import Change, ImageName, RowChange
from binlogsync.errors import ModelError
from binlogsync.models.bounds import find_narrow_bound
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, GEOMETRY_TYPES, INTEGER_BITS, TEXT_TYPES, Column, TableSchema

if TYPE_CHECKING:
    from binlogsync.change_batch import ChangeBatch

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class ModelField:
    """One field of a model: its column, type hint, whether it is required, and bounds given outside the hint."""

    name: str
    column: str
    hint: Any
    required: bool
    bounds: tuple[Any, ...] = ()


def table_name(model: type) -> str:
    """The table of a class: `__tablename__` ("table" or "database.table"), else its name in plural snake case."""
    given = getattr(model, "__tablename__", None)
    if isinstance(given, str):
        return given
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", model.__name__).lower()
    if re.search(r"[^aeiou]y$", snake):
        return snake[:-1] + "ies"
    return snake + ("es" if re.search(r"(s|x|z|ch|sh)$", snake) else "s")


class Model(Generic[M]):
    """A compiled class: call `check` with a schema, then `change` returns typed changes."""

    def __init__(self, cls: type[M]) -> None:
        self.cls = cls
        self.fields = _fields(cls)
        self.table = table_name(cls)
        self._makers: list[tuple[ModelField, Callable[[Any], Any]]] = []
        self._in_order = _takes_in_order(cls, self.fields)

    def check(self, schema: TableSchema) -> None:
        """Raise one ModelError with all mismatches between the model and the table."""
        columns = {column.name: column for column in schema.columns}
        problems = []
        makers: list[tuple[ModelField, Callable[[Any], Any]]] = []
        for item in self.fields:
            column = columns.get(item.column)
            if column is None:
                if item.required:
                    problems.append(_missing(self, item, schema))
                continue
            problem = _misfit(item, column)
            if problem is None:
                makers.append((item, _maker(item, column)))
            else:
                problems.append(f"{self.cls.__name__}.{item.name} does not fit {schema.name}.{column.name}: {problem}")
        if problems:
            raise ModelError("\n".join(problems))
        self._makers = makers

    def row(self, image: Mapping[str, Any] | None) -> M | None:
        """An instance of the class from an image, None from None; raises ModelError for a value that it refuses."""
        if image is None:
            return None
        values: dict[str, Any] = {}
        try:
            for item, make in self._makers:
                if item.column in image:
                    value = image[item.column]
                    values[item.name] = value if value is None or make is _same else make(value)
            return self.cls(**values)
        except (TypeError, ValueError) as error:
            raise self._refused(error) from error

    def change(self, change: RowChange) -> Change[M]:
        """The change with instances of the class as its images; raises ModelError for a value that it refuses."""
        return Change(change.op, self.row(change.before), self.row(change.after), change.source, change)

    def changes(self, batch: ChangeBatch) -> Iterator[Change[M]]:
        """The typed changes of a batch; each instance is created when it is requested. Columns are converted at once.

        Raises ModelError at a change that the class refuses, and ends there.
        """
        if batch.holds_python_values:
            yield from map(self.change, batch.changes())
            return
        before, after = batch.present("before"), batch.present("after")
        old, new = self._instances(batch, "before", before), self._instances(batch, "after", after)
        for raw in batch.views(before, after):
            try:
                images = None if raw.before is None else next(old), None if raw.after is None else next(new)
            except (TypeError, ValueError) as error:
                raise self._refused(error) from error
            yield Change(raw.op, *images, raw.source, raw)

    def _instances(self, batch: ChangeBatch, image: ImageName, columns: Mapping[str, list[Any]]) -> Iterator[M]:
        """An instance for each change that has the image."""
        texts = [column for where, column in batch.impossible if where == image]
        names: list[str] = []
        made: list[Iterable[Any]] = []
        for item, make in self._makers:
            values = columns.get(item.column)
            if values is None:
                continue
            is_plain = make is _same or (make is _real_date and item.column not in texts)
            names.append(item.name)
            made.append(values if is_plain else _each(make, values))
        if not made:
            return (self.cls() for _ in count())
        if self._in_order and len(made) == len(self.fields):
            return map(self.cls, *made)
        return (self.cls(**dict(zip(names, values, strict=True))) for values in zip(*made, strict=True))

    def _refused(self, error: Exception) -> ModelError:
        return ModelError(f"{self.cls.__name__} cannot be made from a row of its table: {error}")


def _each(make: Callable[[Any], Any], values: list[Any]) -> Iterator[Any]:
    return (None if value is None else make(value) for value in values)


def _takes_in_order(cls: type, fields: Sequence[ModelField]) -> bool:
    """True when the class can be called with its fields by position, which is faster than by name."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = {parameter.kind for parameter in parameters}
    names = [parameter.name for parameter in parameters]
    return kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD} and names == [item.name for item in fields]


def _fields(cls: type) -> tuple[ModelField, ...]:
    """Fields of a dataclass, Struct or pydantic model; raises ModelError for another class."""
    if not isinstance(cls, type):
        raise ModelError(f"{cls!r} is not a class; give the model itself, not an instance of it")
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ModelError(f"{cls.__name__}: a type annotation cannot be resolved: {error}") from error
    if dataclasses.is_dataclass(cls):
        no_default = dataclasses.MISSING
        return tuple(
            ModelField(f.name, f.name, hints[f.name], f.default is no_default and f.default_factory is no_default)
            for f in dataclasses.fields(cls)
            if f.init
        )
    if issubclass(cls, msgspec.Struct):
        return tuple(ModelField(f.name, f.encode_name, hints[f.name], f.required) for f in msgspec.structs.fields(cls))
    pydantic_fields = getattr(cls, "model_fields", None)
    if isinstance(pydantic_fields, dict):
        return tuple(
            ModelField(f.alias or name, f.alias or name, hints[name], f.is_required(), tuple(f.metadata))
            for name, f in pydantic_fields.items()
        )
    raise ModelError(f"{cls.__name__} is not a model: make it a dataclass, a msgspec.Struct or a pydantic model")


def _missing(model: Model[Any], item: ModelField, schema: TableSchema) -> str:
    near = [c.name for c in schema.columns if c.name.replace("_", "").lower() == item.column.replace("_", "").lower()]
    advice = f"name it {near[0]}" if near else "remove it, or give it a default"
    return f"{model.cls.__name__}.{item.name}: {schema.name} has no column {item.column!r}; {advice}"


def _split(hint: Any) -> tuple[tuple[Any, ...], bool]:
    """The types of a hint without annotations, and whether None is among them."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_split(part) for part in get_args(hint)]
        return tuple(kind for kinds, _ in parts for kind in kinds), any(optional for _, optional in parts)
    return ((), True) if hint in (None, type(None)) else ((hint,), False)


def format_type(hint: Any) -> str:
    """A type in Python notation: "int | None"."""
    kinds, optional = _split(hint)
    names = [getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else str(kind) for kind in kinds]
    return " | ".join([*names, "None"] if optional else names)


def python_types(column: Column) -> tuple[Any, ...]:
    """The Python types that can represent every value of the column, the best first; Any always can."""
    kind = column.type
    if kind in INTEGER_BITS:
        is_flag = kind == "tinyint"
        return (int, bool) if is_flag else (int,)
    if kind in TEXT_TYPES:
        return (str,)
    if kind in GEOMETRY_TYPES:
        return (dict,)
    if kind in BINARY_TYPES:
        return (bytes,)
    if kind == "bit":
        return (bool,) if column.length == 1 else (int,)
    return _PYTHON[kind]


_PYTHON: dict[str, tuple[Any, ...]] = {
    "decimal": (Decimal,),
    "float": (float,),
    "double": (float,),
    "date": (date,),
    "datetime": (datetime,),
    "timestamp": (datetime,),
    "time": (timedelta,),
    "year": (int,),
    "enum": (str,),
    "set": (list, frozenset, set, tuple),
    "json": (dict, list, str, object),
    "vector": (list, tuple),
    "uuid": (str, UUID),
    "inet4": (str, IPv4Address),
    "inet6": (str, IPv6Address),
}


def _misfit(item: ModelField, column: Column) -> str | None:
    """The mismatch between a field and its column, with the fix; None when the field fits."""
    kinds, optional = _split(item.hint)
    fitting = python_types(column)
    if column.nullable and not optional and Any not in kinds and object not in kinds:
        return (
            f"the column may be NULL, and the field is {format_type(item.hint)}; write {format_type(item.hint)} | None"
        )
    if any(_holds(kind, column, fitting) for kind in kinds):
        return find_narrow_bound(item.hint, item.bounds, column)
    wanted = fitting[0].__name__ + (" | None" if column.nullable else "")
    return f"the column is {column.declaration}, and the field is {format_type(item.hint)}; write {wanted}"


def _holds(kind: Any, column: Column, fitting: tuple[Any, ...]) -> bool:
    origin = get_origin(kind) or kind
    if origin in (Any, object) or isinstance(kind, TypeVar):
        return True
    if origin is Literal:
        return column.type == "enum" and set(column.labels) <= set(get_args(kind))
    if isinstance(origin, type) and issubclass(origin, Enum):
        return column.type == "enum" and set(column.labels) <= {member.value for member in origin}
    if column.type == "json" and isinstance(origin, type):
        return origin in fitting or issubclass(origin, Mapping) or dataclasses.is_dataclass(origin)
    return origin in fitting


def _maker(item: ModelField, column: Column) -> Callable[[Any], Any]:
    """A function that converts Arrow's Python value to the field's; it raises ValueError for a value out of range."""
    kinds = [get_origin(kind) or kind for kind in _split(item.hint)[0]]
    if column.type == "json":
        return _json_maker(item.hint, kinds)
    if column.type in ("set", "vector"):
        return next((kind for kind in kinds if kind in (frozenset, set, tuple)), _same)
    if column.type in ADDRESS_TYPES:
        return next((kind for kind in kinds if kind in (UUID, IPv4Address, IPv6Address)), _same)
    if column.type == "tinyint" and kinds == [bool]:
        return _flag
    if column.type in ("date", "datetime", "timestamp") and not {str, object, Any} & set(kinds):
        return _real_date
    if column.type == "enum":
        enum = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)), None)
        return _same if enum is None else enum
    return _same


def _json_maker(hint: Any, kinds: list[Any]) -> Callable[[Any], Any]:
    if kinds == [str]:
        return _same
    if all(kind in (dict, list, object, Any, Mapping) for kind in kinds):
        return json.loads
    decoder = msgspec.json.Decoder(hint)
    return decoder.decode


def _flag(value: int) -> bool:
    if value not in (0, 1):
        raise ValueError(f"{value} is neither 0 nor 1, and the field is bool; write int")
    return bool(value)


def _real_date(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"{value} is not a date that Python has; add str to the types of the field to get it as text")
    return value


def _same(value: Any) -> Any:
    return value
