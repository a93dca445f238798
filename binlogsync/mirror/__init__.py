"""DuckDB tables that stay equal to MySQL's, through every change and DDL (apply.py is the core)."""
