"""The tables found in a dump: their TABLE_MAPs by slot, and the layouts of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.ddl import ALL_TABLES
from binlogsync.binlog.known_tables import KnownTables, TableLookup, no_tables
from binlogsync.binlog.layout import UPDATE, ColumnError, Layout
from binlogsync.binlog.partial_json import PartialJsonRows
from binlogsync.binlog.scan_state import TableMapCache
from binlogsync.binlog.table_declaration import (
    AlterationLookup,
    DeclarationLookup,
    name_columns,
    no_alteration,
    no_declaration,
    resolve_columns,
)
from binlogsync.binlog.tablemap import TableMap, parse_name, parse_table_map
from binlogsync.position import BinlogPosition
from binlogsync.schema import TableSchema
from binlogsync.table_names import Fold, keep_case


class Catalog:
    """The distinct TABLE_MAPs of a dump, and a `Layout` for each."""

    def __init__(
        self,
        captures: Callable[[str, str], bool],
        *,
        mariadb: bool,
        declared: DeclarationLookup = no_declaration,
        altered: AlterationLookup = no_alteration,
        existing: TableLookup = no_tables,
        fold: Fold = keep_case,
    ) -> None:
        self.names = KnownTables(existing, fold)
        self._fold = fold
        self.tables = TableMapCache.empty()
        self.layouts: list[Layout] = []
        self.captures = captures
        self._mariadb = mariadb
        self._declared = declared
        self._altered = altered
        self._stale: set[tuple[str, str]] = set()  # altered since the server was last asked for their declaration
        self._maps: list[TableMap] = []
        self._partial: dict[tuple[int, bytes], int] = {}
        self._latest: dict[tuple[str, str], TableSchema] = {}
        self._slots: dict[bytes, int] = {}  # by the body without its table id

    def add(self, body: npt.NDArray[np.uint8], position: BinlogPosition) -> None:
        """Register the TABLE_MAP with this body, of the event at `position`.

        Raises ValueError, or ColumnError for a captured type that cannot be decoded.
        """
        data = body.tobytes()
        logged = parse_name(data)
        name = self._fold(logged[0]), self._fold(logged[1])
        known = self._slots.get(data[6:])
        if known is not None and not self._is_doubtful(known, name, data):
            self._rename(known, body)
            return
        captured = self.captures(*name)
        table = parse_table_map(data, mariadb=self._mariadb, captured=captured)
        if captured and not table.has_names:
            table = name_columns(data, position, (self._declared, self._altered), mariadb=self._mariadb)
        else:
            table = resolve_columns(table, self._declared, mariadb=self._mariadb, captured=captured)
        table = replace(table, schema=replace(table.schema, database=name[0], table=name[1]))
        self._stale.discard(name)
        if captured:
            self.names.add(*name)
        if known is not None and (self._table_map(known).schema, self._table_map(known).visible_schema) == (
            table.schema,
            table.visible_schema,
        ):
            self._rename(known, body)
            return
        everything = tuple(range(len(table.raw)))
        layout = Layout.of(table, (everything, everything), captured=captured)
        self._slots[data[6:]] = self.tables.add(body, table.table_id, len(self.layouts), len(table.raw))
        self.layouts.append(layout)
        self._maps.append(table)
        self._latest[table.schema.database, table.schema.table] = table.visible_schema

    def mark_altered(self, tables: Iterable[tuple[str, str]]) -> None:
        """Record that a statement may have changed the columns of these tables."""
        self._stale.update(tables)

    def _is_doubtful(self, slot: int, name: tuple[str, str], data: bytes) -> bool:
        """True when the declaration obtained from the server may be outdated: the table was altered, or reopened."""
        at = int(self.tables.at[slot])
        is_same = self.tables.known[at : at + 6].tobytes() == data[:6]
        return self._table_map(slot).is_declared and (
            not is_same or name in self._stale or (name[0], ALL_TABLES) in self._stale
        )

    def _table_map(self, slot: int) -> TableMap:
        return self._maps[int(self.tables.layout[slot])]

    def _rename(self, slot: int, body: npt.NDArray[np.uint8]) -> None:
        """Register a TABLE_MAP that differs from a known one in its table id only."""
        self.tables.rename(slot, body, int.from_bytes(body[:6].tobytes(), "little"))
        schema = self._table_map(slot).visible_schema
        self._latest[schema.database, schema.table] = schema

    def latest_schema(self, database: str, table: str) -> TableSchema:
        """The schema of the last TABLE_MAP of a table; a schema without columns when there was none yet."""
        return self._latest.get((database, table)) or TableSchema(database, table, ())

    def find_partial_layout(self, full: int, bitmaps: bytes, op: int) -> int | None:
        """Number of the layout of rows that contain only the columns whose bits are set.

        `bitmaps` is one bitmap, or two for an update; `full` is the number of the layout with all columns. Returns None
        for rows without any column of a table that is not captured, because they cannot be counted. Raises ColumnError.
        """
        key = (full, bytes([op]) + bitmaps)
        if key not in self._partial:
            table = self._maps[full]
            width = len(bitmaps) // (2 if op == UPDATE else 1)
            first, last = _columns(bitmaps[:width], len(table.raw)), _columns(bitmaps[-width:], len(table.raw))
            if len(first) == len(last) == len(table.raw):
                return full
            if not first and not last:
                if not self.layouts[full].captured:
                    return None
                raise ColumnError(
                    "rows without columns cannot be counted; run: SET GLOBAL binlog_row_image = 'FULL'", "", 0
                )
            self._partial[key] = len(self.layouts)
            self.layouts.append(Layout.of(table, (first, last), captured=self.layouts[full].captured))
            self._maps.append(table)
        return self._partial[key]

    def partial_json_rows(self, number: int) -> PartialJsonRows:
        """The reader of PARTIAL_UPDATE_ROWS events of that layout."""
        return PartialJsonRows(self.layouts[number], self._maps[number])


def _columns(bitmap: bytes, count: int) -> tuple[int, ...]:
    return tuple(i for i in range(count) if bitmap[i // 8] >> i % 8 & 1)


def table_name(body: bytes) -> str | None:
    """ "database.table" of a TABLE_MAP that cannot be decoded, for the error message; None when it cannot be read."""
    try:
        return ".".join(parse_name(body))
    except ValueError:
        return None
