"""Finds what the modules of a package define, so that nobody keeps a list."""

from dataclasses import dataclass
from types import ModuleType

import dagster as dg

from binlogsync.modules import objects_of
from pipelines.keys import refuse_collisions
from pipelines.tables import TableAsset

FurtherAsset = dg.AssetsDefinition | dg.AssetSpec | dg.SourceAsset


@dataclass(frozen=True, slots=True)
class Found:
    """What the modules define: consumers of tables, and Dagster assets and asset checks beside them."""

    tables: tuple[TableAsset, ...]
    assets: tuple[FurtherAsset, ...]
    checks: tuple[dg.AssetChecksDefinition, ...]

    def of(self, source: str) -> tuple[TableAsset, ...]:
        """The consumers of one source."""
        return tuple(table for table in self.tables if table.name.source == source)


def find(package: ModuleType) -> Found:
    """Import every module below the package, and gather what is at their top, in lists, tuples and dicts too.

    Raises ConfigError where two tables would get one name in Dagster, and for a module that does not finish. An object
    imported from another module counts once.
    """
    tables: list[TableAsset] = []
    assets: list[FurtherAsset] = []
    checks: list[dg.AssetChecksDefinition] = []
    for value in objects_of(package):
        if isinstance(value, TableAsset):
            tables.append(value)
        elif isinstance(value, dg.AssetChecksDefinition):
            checks.append(value)
        elif isinstance(value, FurtherAsset):
            assets.append(value)
    refuse_collisions([table.name for table in tables])
    return Found(tuple(tables), tuple(assets), tuple(checks))
