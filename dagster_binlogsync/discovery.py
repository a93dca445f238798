"""Finds the consumers, assets and asset checks in the modules of a package."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType

import dagster as dg

from binlogsync.modules import code_version, objects_of
from dagster_binlogsync.keys import check_collisions
from dagster_binlogsync.mirror_patterns import MirrorPattern, flatten_tables
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tail.job import TailConfig

DagsterAsset = dg.AssetsDefinition | dg.AssetSpec | dg.SourceAsset


@dataclass(frozen=True, slots=True)
class ConsumerDefinitions:
    """Consumers of tables, and other Dagster assets and asset checks, found in the modules of a package.

    `patterns` are those whose mirrors are among `tables`.

    `code` is the version of the loaded code: after a reload, runs with another version are requested to end.
    """

    tables: tuple[TableAsset, ...]
    assets: tuple[DagsterAsset, ...]
    checks: tuple[dg.AssetChecksDefinition, ...]
    patterns: tuple[MirrorPattern, ...] = ()
    code: str = field(default_factory=code_version)

    def of(self, source: str) -> tuple[TableAsset, ...]:
        """The consumers of the source."""
        return tuple(table for table in self.tables if table.name.source == source)

    def patterns_of(self, source: str) -> tuple[MirrorPattern, ...]:
        """The patterns of mirrors of the source."""
        return tuple(pattern for pattern in self.patterns if pattern.source == source)


def find_uncaptured(tables: Iterable[TableAsset], options: TailConfig) -> frozenset[dg.AssetKey]:
    """Keys of the mirrors whose tables a tail with these options does not capture: they would never change."""
    captures = options.build_filter()
    mirrors = (table for table in tables if table.is_mirror)
    return frozenset(each.key for each in mirrors if not captures(each.name.database, each.name.table))


def find_definitions(package: ModuleType) -> ConsumerDefinitions:
    """Import all modules of the package and collect their module-level definitions, also from lists, tuples and dicts.

    An object that is imported into another module counts once. Raises ConfigError if two tables would have the same
    name in Dagster, and if the import of a module does not end.
    """
    return collect_definitions(objects_of(package))


def collect_definitions(values: Iterable[object]) -> ConsumerDefinitions:
    """The consumers, assets and checks among the values. Raises ConfigError for two tables of one name in Dagster."""
    tables: list[TableAsset | MirrorPattern] = []
    assets: list[DagsterAsset] = []
    checks: list[dg.AssetChecksDefinition] = []
    for value in values:
        if isinstance(value, TableAsset | MirrorPattern):
            tables.append(value)
        elif isinstance(value, dg.AssetChecksDefinition):
            checks.append(value)
        elif isinstance(value, DagsterAsset):
            assets.append(value)
    found, patterns = flatten_tables(tables), tuple(value for value in tables if isinstance(value, MirrorPattern))
    check_collisions([table.name for table in found])
    return ConsumerDefinitions(found, tuple(assets), tuple(checks), patterns)
