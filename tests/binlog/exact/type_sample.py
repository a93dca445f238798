"""What a sample of a type is."""

from __future__ import annotations

import re
from dataclasses import dataclass

MYSQL, MARIADB, MARIADB_10 = "mysql", "mariadb", "mariadb_10"
ALL = (MYSQL, MARIADB, MARIADB_10)
_SYNONYMS = {"geomcollection": "geometrycollection"}


@dataclass(frozen=True, slots=True)
class TypeSample:
    """One column type and values for it.

    Attributes:
        ddl: the type as CREATE TABLE takes it.
        kind: the name of its comparison in KINDS.
        literals: values in SQL; NULL comes with every sample without being named.
        servers: those that have the type.
        old: made with MariaDB's mysql56_temporal_format=OFF.
    """

    ddl: str
    kind: str
    literals: tuple[str, ...]
    servers: tuple[str, ...] = ALL
    old: bool = False

    @property
    def type(self) -> str:
        """The name of the type, as Column.type says it."""
        name = re.split(r"[ (]", self.ddl.lower())[0]
        if "character set binary" in self.ddl.lower():
            return name.replace("char", "binary").replace("text", "blob")
        return "longtext" if name == "json" and self.kind == "json text" else _SYNONYMS.get(name, name)

    @property
    def name(self) -> str:
        """The DDL, or what of it fits into a line."""
        name = self.ddl if len(self.ddl) < 60 else f"{self.type.upper()} of {self.ddl.count(',') + 1} labels"
        if self.kind == "json text":  # MariaDB's, which is no type of its own
            return "JSON as text"
        return f"old {name}" if self.old else name

    @property
    def fsp(self) -> int:
        """Digits of a second's fraction, of a temporal type."""
        digits = re.search(r"\((\d)\)", self.ddl)
        return int(digits[1]) if digits and self.type in ("time", "datetime", "timestamp") else 0

    @property
    def width(self) -> int:
        """About the bytes that it takes of the 65,535 which a row, and a definition, may have."""
        size = re.match(r"(?:VAR)?(?:CHAR|BINARY)\((\d+)\)", self.ddl)
        return len(self.ddl) + (4 * int(size[1]) if size else 20)

    def literal(self, row: int) -> str:
        """The value in that row of a table; the values and NULL come round and round."""
        place = row % (len(self.literals) + 1)
        return self.literals[place] if place < len(self.literals) else "NULL"
