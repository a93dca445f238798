"""binlogsync in Dagster: resources, sensors, assets, checks and jobs, for any Dagster project.

A project configures the resources, writes its consumers (`tables.mirror`, `tables.table_consumer`), and calls
`definitions.build_definitions`. Nothing here reads an environment variable or connects when it is imported.
"""

try:
    import dagster as dagster
except ModuleNotFoundError as error:
    raise ImportError("dagster_binlogsync requires Dagster: pip install 'binlogsync[dagster]'") from error
