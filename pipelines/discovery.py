"""Finds what the modules of a package define, so that nobody keeps a list."""

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

import dagster as dg

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
    """Import every module below the package, in the order of their names, and gather what is at their top.

    Raises ConfigError where two tables would get one name in Dagster. An object imported from another module counts
    once.
    """
    tables: dict[int, TableAsset] = {}
    assets: dict[int, FurtherAsset] = {}
    checks: dict[int, dg.AssetChecksDefinition] = {}
    for module in _modules(package):
        for value in vars(module).values():
            if isinstance(value, TableAsset):
                tables[id(value)] = value
            elif isinstance(value, dg.AssetChecksDefinition):
                checks[id(value)] = value
            elif isinstance(value, FurtherAsset):
                assets[id(value)] = value
    refuse_collisions([table.name for table in tables.values()])
    return Found(tuple(tables.values()), tuple(assets.values()), tuple(checks.values()))


def _modules(package: ModuleType) -> list[ModuleType]:
    names = sorted(info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."))
    return [importlib.import_module(name) for name in names]
