"""Mirrors of all tables that match patterns: `mirrors("shop.*")` instead of a line per table.

The tables come from the list that the tail of the source stores (binlogsync/table_list.py), so loading the definitions
connects to no server. A table that is created later joins the list within minutes, and becomes an asset with the next
Reload of the definitions; the check `tables_loaded` of the source counts those that wait for it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from binlogsync.collection import without_collection
from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter
from binlogsync.settings import Settings
from binlogsync.table_list import ListedTable, TableList, load_table_list
from binlogsync.targets.mirror_options import MirrorKeywords, MirrorOptions
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.table_asset import AssetOptions, TableAsset
from dagster_binlogsync.tables import CLIENT_ID, mirror_table
from dagster_binlogsync.translator import BinlogsyncTranslator

if TYPE_CHECKING:
    from binlogsync.snapshot.throttle import LoadLimits


@dataclass(frozen=True, slots=True)
class MirrorOptionsOfPattern:
    """How each table of a pattern is mirrored; `mirrors` describes the fields."""

    keeps: MirrorOptions = field(default_factory=MirrorOptions)
    client_id: str = CLIENT_ID
    options: AssetOptions | None = None
    translator: BinlogsyncTranslator | None = None
    load_limits: "Callable[[], LoadLimits] | None" = None


@dataclass(frozen=True, slots=True)
class MirrorPattern:
    """Mirrors of the tables that match patterns; `mirrors` makes it. Iterating yields the mirrors.

    Attributes:
        source: name of the source.
        include, exclude: the patterns.
        tables: the mirrors of the tables that matched when the definitions were loaded.
    """

    source: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    tables: tuple[TableAsset, ...] = field(compare=False)

    def __iter__(self) -> Iterator[TableAsset]:
        return iter(self.tables)

    def find_matching(self, tables: TableList) -> frozenset[tuple[str, str]]:
        """(database, table) of the tables of the list that match."""
        return frozenset(table.name for table in _match(tables, self.include, self.exclude))


@without_collection()
def mirrors(
    *patterns: str,
    exclude: Sequence[str] | str = (),
    source: str | None = None,
    client_id: str = CLIENT_ID,
    options: AssetOptions | None = None,
    translator: BinlogsyncTranslator | None = None,
    **keeps: Unpack[MirrorKeywords],
) -> MirrorPattern:
    """Mirrors of all tables of the source that match one of the patterns.

    Args:
        patterns: "database.table" with * and ?, as in BINLOGSYNC_INCLUDE ("shop.*").
        exclude: patterns of tables to leave out.
        source: name of the source, by default the first one.
        client_id, options, translator, keeps: as for `mirror`, for each of the tables.

    A table that has a separate consumer (`mirror`, `table_consumer`) is not mirrored a second time. Raises
    ConfigError.
    """
    settings = Settings.read()
    source = source or settings.source()
    kept = MirrorOptionsOfPattern(MirrorOptions.of(**keeps), client_id, options, translator)
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    return resolve_pattern(load_table_list(settings.table_lists(), source), source, patterns, excluded, kept)


def resolve_pattern(
    tables: TableList | None,
    source: str,
    include: Sequence[str],
    exclude: Sequence[str],
    kept: MirrorOptionsOfPattern,
) -> MirrorPattern:
    """The pattern with the mirrors of the tables of the list; no mirrors without a list. Raises ConfigError."""
    if not include:
        raise ConfigError('mirrors requires a pattern, such as "shop.*"')
    TableFilter(tuple(include), tuple(exclude))
    found = () if tables is None else _match(tables, tuple(include), tuple(exclude))
    made = (
        mirror_table(
            TableName(source, *table.name), kept.keeps, client_id=kept.client_id, options=kept.options, listed=table,
            translator=kept.translator, load_limits=kept.load_limits,
        )
        for table in found
    )  # fmt: skip
    return MirrorPattern(source, tuple(include), tuple(exclude), tuple(made))


def flatten_tables(values: Iterable[TableAsset | MirrorPattern]) -> tuple[TableAsset, ...]:
    """The consumers, and those of patterns for tables that have no other one before.

    Raises ConfigError if two mirrors would have one table in the warehouse.
    """
    values = list(values)
    own = [value for value in values if isinstance(value, TableAsset)]
    names = {table.name for table in own}
    for pattern in (value for value in values if isinstance(value, MirrorPattern)):
        for table in pattern.tables:
            if table.name not in names:
                names.add(table.name)
                own.append(table)
    _check_target_names(own)
    return tuple(own)


def _check_target_names(tables: Iterable[TableAsset]) -> None:
    """Raise ConfigError if the names that patterns give mirrors are those of other mirrors, or of their history.

    Mirrors without such a pattern get a name that is free when they begin.
    """
    seen: dict[tuple[str, str], TableAsset] = {}
    for table in tables:
        mirror, location = table.consumer.mirror, table.consumer.location
        if mirror is None or location is None:
            continue
        for name in (location[1], *([f"{location[1]}__history"] if mirror.history else [])):
            other = seen.setdefault((location[0].lower(), name.lower()), table)
            if other is not table and any(one.consumer.mirror.has_target_names for one in (other, table)):  # type: ignore[union-attr]
                raise ConfigError(
                    f"the mirrors of {other.name} and {table.name} would both have the table {location[0]}.{name} in "
                    "the warehouse; write target_schema and target_table with {database} and {table}"
                )


@dataclass(frozen=True, slots=True)
class StoredLists:
    """Where the list of the tables of a source is stored.

    Attributes:
        folder: the folder of the lists that tails write.
        state: the list that is stored with the definitions, as the state of a component; None if there is none.
        refresh: the command that reads the list from the server.
    """

    folder: Path
    state: TableList | None = None
    refresh: str = "binlogsync tables --refresh"

    def load(self, source: str) -> TableList | None:
        """The newer of the two lists; None if there is none yet. Raises ConfigError if one cannot be read."""
        stored, state = load_table_list(self.folder, source), self.state
        return state if state is not None and (stored is None or state.read_at > stored.read_at) else stored

    def explain_missing(self) -> str:
        """What to do if there is no list."""
        return f"There is no list of tables yet: the tail writes it, and so does {self.refresh}."


@dataclass(frozen=True, slots=True)
class LoadedTables:
    """How many tables match the patterns of a source, and which of them await a Reload of the definitions."""

    matched: int
    awaiting: tuple[str, ...]

    def __str__(self) -> str:
        if not self.awaiting:
            return f"all {self.matched} table(s) that match the patterns are loaded"
        names = ", ".join(self.awaiting[:10]) + (", ..." if len(self.awaiting) > 10 else "")
        return f"{len(self.awaiting)} of {self.matched} table(s) await a Reload of the definitions: {names}"


def compare_tables(
    lists: StoredLists, source: str, patterns: Sequence[MirrorPattern], tables: Iterable[TableAsset]
) -> LoadedTables | None:
    """Compare the stored list with the loaded tables; None if there is no list yet. Raises ConfigError."""
    listed = lists.load(source)
    if listed is None:
        return None
    matched = frozenset[tuple[str, str]]().union(*(pattern.find_matching(listed) for pattern in patterns))
    loaded = {(table.name.database, table.name.table) for table in tables}
    return LoadedTables(len(matched), tuple(sorted(".".join(name) for name in matched - loaded)))


def _match(tables: TableList, include: tuple[str, ...], exclude: tuple[str, ...]) -> list[ListedTable]:
    wanted = TableFilter(include, exclude)
    return [table for table in tables.tables if wanted.captures(*table.name)]
