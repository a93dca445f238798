"""binlogsync in Dagster: resources, sensors, assets, checks and jobs, for any Dagster project.

    import binlogsync_consumers
    from dagster_binlogsync import build_definitions

    defs = build_definitions(consumers=binlogsync_consumers)

`build_definitions` makes everything from settings and consumers (`mirror`, `mirrors`, `table_consumer`). A project that
writes its own assets uses `build_tail`, `@binlogsync_assets` and `BinlogsyncResource`. Nothing here reads an
environment variable or connects when it is imported. Neither this import nor definitions load kernels or client
libraries: what only a run needs is imported in the function that runs.
"""

try:
    import dagster as dagster
except ModuleNotFoundError as error:
    raise ImportError("dagster_binlogsync requires Dagster: pip install 'binlogsync[dagster]'") from error

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from dagster_shared.libraries import DagsterLibraryRegistry

from binlogsync.collection import without_collection

with without_collection():
    from dagster_binlogsync.asset_decorator import binlogsync_assets
    from dagster_binlogsync.binlogsync_resource import BinlogsyncResource
    from dagster_binlogsync.component.component import BinlogSyncComponent
    from dagster_binlogsync.consume.config import ConsumeConfig, ContinuousConfig
    from dagster_binlogsync.definitions import build_definitions
    from dagster_binlogsync.mirror_patterns import MirrorPattern, mirrors
    from dagster_binlogsync.resource_keys import ResourceKeys
    from dagster_binlogsync.table_asset import TableAsset
    from dagster_binlogsync.tables import mirror, table_consumer
    from dagster_binlogsync.tail.job import TailConfig
    from dagster_binlogsync.tail_definitions import build_tail
    from dagster_binlogsync.translator import AssetOptions, BinlogsyncTableProps, BinlogsyncTranslator

__all__ = [
    "AssetOptions",
    "BinlogSyncComponent",
    "BinlogsyncResource",
    "BinlogsyncTableProps",
    "BinlogsyncTranslator",
    "ConsumeConfig",
    "ContinuousConfig",
    "MirrorPattern",
    "ResourceKeys",
    "TableAsset",
    "TailConfig",
    "binlogsync_assets",
    "build_definitions",
    "build_tail",
    "mirror",
    "mirrors",
    "table_consumer",
]

with suppress(PackageNotFoundError):  # a checkout that is not installed
    DagsterLibraryRegistry.register("dagster_binlogsync", version("binlogsync"), is_dagster_package=False)
