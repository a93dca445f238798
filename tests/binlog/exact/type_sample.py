"""`TypeSample`: a column type with values."""

from __future__ import annotations

import re
from dataclasses import dataclass

MYSQL, MARIADB, MARIADB_10 = "mysql", "mariadb", "mariadb_10"
ALL = (MYSQL, MARIADB, MARIADB_10)
_SYNONYMS = {"geomcollection": "geometrycollection"}


@dataclass(frozen=True, slots=True)
class TypeSample:
    """A column type and values for it.

    Attributes:
        ddl: the type in CREATE TABLE.
        kind: the key of its conversions in KINDS.
        literals: values as SQL literals; every sample also has NULL.
        servers: the servers that support the type.
        old: True for tables created with MariaDB's mysql56_temporal_format=OFF.
    """

    ddl: str
    kind: str
    literals: tuple[str, ...]
    servers: tuple[str, ...] = ALL
    old: bool = False

    @property
    def type(self) -> str:
        """The name of the type, as in Column.type."""
        name = re.split(r"[ (]", self.ddl.lower())[0]
        if "character set binary" in self.ddl.lower():
            return name.replace("char", "binary").replace("text", "blob")
        return "longtext" if name == "json" and self.kind == "json text" else _SYNONYMS.get(name, name)

    @property
    def name(self) -> str:
        """The DDL, shortened to fit into a line."""
        name = self.ddl if len(self.ddl) < 60 else f"{self.type.upper()} of {self.ddl.count(',') + 1} labels"
        if self.kind == "json text":  # MariaDB's JSON, which is an alias of LONGTEXT
            return "JSON as text"
        return f"old {name}" if self.old else name

    @property
    def fsp(self) -> int:
        """The number of fractional digits of a temporal type."""
        digits = re.search(r"\((\d)\)", self.ddl)
        return int(digits[1]) if digits and self.type in ("time", "datetime", "timestamp") else 0

    @property
    def width(self) -> int:
        """Approximate size; a row, and a table definition, may have 65,535 bytes."""
        size = re.match(r"(?:VAR)?(?:CHAR|BINARY)\((\d+)\)", self.ddl)
        return len(self.ddl) + (4 * int(size[1]) if size else 20)

    def literal(self, row: int) -> str:
        """The value in row number `row` of a table; the values and NULL repeat."""
        position = row % (len(self.literals) + 1)
        return self.literals[position] if position < len(self.literals) else "NULL"
