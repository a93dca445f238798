"""The former name of targets/duckdb/column_types.py, for an import that moves next."""

from binlogsync.targets.duckdb.column_types import duck_type as duck_type
