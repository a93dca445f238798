"""The list of the tables of a source: a JSON file that the tail writes, and that patterns of mirrors are resolved from.

Loading the definitions of a project must not connect to a server, so the tail (or `binlogsync tables --refresh`) reads
the list from INFORMATION_SCHEMA (mysql/table_list.py) and stores it here. A table that the server no longer has stays
in the list that a tail writes, so that no reload removes a consumer; only a refresh removes it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import msgspec

from binlogsync.errors import ConfigError
from binlogsync.private_files import make_folder, open_new

VERSION = 1


@dataclass(frozen=True, slots=True)
class ListedColumn:
    """One column: name, type as MySQL prints it, whether it may be NULL, whether it is in the key, and comment."""

    name: str
    type: str
    nullable: bool = True
    in_key: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ListedTable:
    """One table with its columns in order."""

    database: str
    table: str
    columns: tuple[ListedColumn, ...] = ()
    comment: str = ""

    @property
    def name(self) -> tuple[str, str]:
        """(database, table)."""
        return self.database, self.table


@dataclass(frozen=True, slots=True)
class TableList:
    """The tables of a source.

    Attributes:
        source: name of the source.
        read_at: when the server was read, UTC.
        tables: sorted by name.
    """

    source: str
    read_at: datetime
    tables: tuple[ListedTable, ...]

    def find(self, database: str, table: str) -> ListedTable | None:
        """The table of that name, if it is listed."""
        return next((each for each in self.tables if each.name == (database, table)), None)

    def keep_missing(self, before: TableList | None) -> TableList:
        """This list, with the tables that only `before` has."""
        names = {table.name for table in self.tables}
        missing = [table for table in (before.tables if before else ()) if table.name not in names]
        tables = sorted((*self.tables, *missing), key=lambda table: table.name)
        return TableList(self.source, self.read_at, tuple(tables))

    def to_json(self) -> str:
        """The document of the file; `parse_table_list` reads it."""
        tables = [asdict(table) for table in self.tables]
        document = {"version": VERSION, "source": self.source, "read_at": self.read_at.isoformat(), "tables": tables}
        return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def parse_table_list(text: str, origin: str) -> TableList:
    """Read what `TableList.to_json` wrote; `origin` names it in errors. Raises ConfigError."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']!r}, where this program reads version {VERSION}")
        tables = msgspec.convert(document["tables"], tuple[ListedTable, ...])
        return TableList(str(document["source"]), datetime.fromisoformat(document["read_at"]), tables)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{origin} is not a list of tables ({error}); delete it, and write it again: binlogsync tables --refresh"
        ) from error


def table_list_path(folder: Path, source: str) -> Path:
    """The file of a source in the folder of the lists."""
    return folder / f"{source}.json"


def load_table_list(folder: Path, source: str) -> TableList | None:
    """The stored list; None if there is none yet. Raises ConfigError if it cannot be read."""
    path = table_list_path(folder, source)
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"the list of tables {path} cannot be read: {error.strerror}") from error
    return _load(path, (state.st_mtime_ns, state.st_size, state.st_ino))


@lru_cache(maxsize=64)
def _load(path: Path, _version: tuple[int, ...]) -> TableList:
    try:
        return parse_table_list(path.read_text(encoding="utf-8"), f"the file {path}")
    except OSError as error:
        raise ConfigError(f"the list of tables {path} cannot be read: {error.strerror}") from error


def save_table_list(folder: Path, tables: TableList) -> None:
    """Replace the stored list in one step. Raises OSError."""
    path = table_list_path(folder, tables.source)
    make_folder(folder)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open_new(draft) as file:
        file.write(tables.to_json().encode())
    os.replace(draft, path)
