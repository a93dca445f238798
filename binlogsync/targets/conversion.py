"""What ALTER TABLE does to values: the result that a target must compute, where it provably equals the server's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from binlogsync.binlog.sql import SqlDialect
from binlogsync.schema import Column, TableSchema


@dataclass(frozen=True, slots=True)
class Conversion:
    """`value` is the converted value; for rows where `guard` is true, it is not proven. Both are SQL of the target."""

    value: str
    guard: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnDefault:
    """The default of a column.

    Attributes:
        kind: "implicit" without a DEFAULT clause; "other" for a default that only the server can evaluate.
        text: of a number or a string.
    """

    kind: Literal["implicit", "null", "number", "string", "other"] = "implicit"
    text: str = ""


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """The definition of a column in a statement.

    Attributes:
        column: name and type.
        default: its default, which existing rows get when the column is added.
        is_explicit_null: the definition contains NULL.
        is_key: the definition contains PRIMARY KEY.
        is_auto_increment: the definition contains AUTO_INCREMENT.
        is_generated: the server computes its values.
    """

    column: Column
    default: ColumnDefault = field(default_factory=ColumnDefault)
    is_explicit_null: bool = False
    is_key: bool = False
    is_auto_increment: bool = False
    is_generated: bool = False


class ColumnConverter(Protocol):
    """Writes the conversions in the SQL of a target. `None` stands for a value that only the server knows."""

    @abstractmethod
    def keep(self, name: str) -> str:
        """The unchanged value of a column."""

    @abstractmethod
    def is_null(self, name: str) -> str:
        """A condition that is true for NULL."""

    @abstractmethod
    def convert(
        self, old: Column, new: Column, dialect: SqlDialect, *, is_auto_increment: bool = False
    ) -> Conversion | None:
        """The conversion of a column's values by MODIFY or CHANGE; None if it is never proven."""

    @abstractmethod
    def initial_value(self, definition: ColumnDefinition, dialect: SqlDialect) -> str | None:
        """The value of an added column in existing rows; None if only the server knows it."""

    @abstractmethod
    def key_date_condition(self, names: Iterable[str]) -> str:
        """A condition that is true for a row with an invalid date in one of these columns; "" for no columns.

        Invalid dates are NULL in a target, except in a primary key: there each is stored as a distinct value.
        """

    @abstractmethod
    def has_same_shape(self, one: TableSchema, other: TableSchema) -> bool:
        """True when both schemas have the same column names and types of the target in the same order."""
