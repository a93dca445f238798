"""The Dagster project: jobs and assets that wire `binlogsync` together. `definitions.py` holds the only Definitions."""
