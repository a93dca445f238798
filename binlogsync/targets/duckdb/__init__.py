"""The target in a DuckDB file: the only package that uses DuckDB."""
