"""The tables that this deployment consumes. A file in this folder is found by itself; adding a table is one short file.

    from pipelines.tables import mirror

    orders = mirror("shop.orders")          # a DuckDB table that stays equal to MySQL's, with no code

Every `TableAsset` at the top of a module here becomes an asset, with its checks, its place in the lineage and its
backlog watched; so does every other asset or asset check of Dagster's own, such as one that is computed from a
mirror.
"""
