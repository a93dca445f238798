"""The consumers of this deployment. Modules of this folder are loaded automatically; to add a table, add a file.

    from dagster_binlogsync.tables import mirror

    orders = mirror("shop.orders")          # a DuckDB table that stays equal to the MySQL table

Every module-level `TableAsset` becomes an asset with checks, lineage and a backlog sensor. Other module-level Dagster
assets and asset checks are loaded too, for example an asset that is computed from a mirror.
"""
