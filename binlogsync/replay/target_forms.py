"""How a user writes the target of a replay; definitions of Dagster show it, so this module imports no library."""

TARGET_FORMS = "table, handler, parquet:FOLDER or subject:NAME"
