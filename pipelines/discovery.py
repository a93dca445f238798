"""Finds what the modules of a package define, so that nobody keeps a list."""

from dataclasses import dataclass
from types import ModuleType

import dagster as dg

from binlogsync.modules import objects_of
from pipelines.keys import refuse_collisions
from pipelines.tables import TableAsset

DagsterAsset = dg.AssetsDefinition | dg.AssetSpec | dg.SourceAsset


@dataclass(frozen=True, slots=True)
class ConsumerDefinitions:
    """What the modules define: consumers of tables, and Dagster assets and asset checks beside them."""

    tables: tuple[TableAsset, ...]
    assets: tuple[DagsterAsset, ...]
    checks: tuple[dg.AssetChecksDefinition, ...]

    def of(self, source: str) -> tuple[TableAsset, ...]:
        """The consumers of one source."""
        return tuple(table for table in self.tables if table.name.source == source)


def find_definitions(package: ModuleType) -> ConsumerDefinitions:
    """Import every module below the package, and gather what is at their top, in lists, tuples and dicts too.

    Raises ConfigError where two tables would get one name in Dagster, and for a module that does not finish. An object
    imported from another module counts once.
    """
    tables: list[TableAsset] = []
    assets: list[DagsterAsset] = []
    checks: list[dg.AssetChecksDefinition] = []
    for value in objects_of(package):
        if isinstance(value, TableAsset):
            tables.append(value)
        elif isinstance(value, dg.AssetChecksDefinition):
            checks.append(value)
        elif isinstance(value, DagsterAsset):
            assets.append(value)
    refuse_collisions([table.name for table in tables])
    return ConsumerDefinitions(tuple(tables), tuple(assets), tuple(checks))
