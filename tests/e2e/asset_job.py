"""The job of all assets of a project that has Dagster's default executor; the process of each step builds it again."""

import os

import dagster as dg

from binlogsync.settings import Settings
from dagster_binlogsync import build_definitions, mirror


@dg.asset(deps=[mirror("any.any", source="main").key])
def unrelated() -> None:
    """An asset of the project."""


def asset_job() -> dg.JobDefinition:
    """The assets of the source in the settings, and those of a project."""
    source = os.environ["BINLOGSYNC_SOURCE"]
    tables = [mirror(f"{source}.{table}", source=source) for table in ("notes", "orders")]
    everything = dg.define_asset_job("everything", dg.AssetSelection.groups("tables", "default").without_checks())
    own = dg.Definitions([unrelated], jobs=[everything], executor=dg.multiprocess_executor)
    return dg.Definitions.merge(build_definitions(Settings.read(), tables), own).resolve_job_def("everything")
