"""The names that modules of consumers imported from here before `dagster_binlogsync.tables` existed."""

from dagster_binlogsync.tables import AssetOptions, TableAsset, mirror, table_consumer

__all__ = ["AssetOptions", "TableAsset", "mirror", "table_consumer"]
