"""Defaults of the options of continuous runs of consumers; the Launchpad shows and overrides them."""

from binlogsync.settings import Settings
from dagster_binlogsync.consume.config import ContinuousConfig


def continuous_config(settings: Settings) -> ContinuousConfig | None:
    """The options that settings have; None if consumers run on a backlog."""
    project = settings.values.dagster
    if project.consume != "continuous":
        return None
    return ContinuousConfig(shift_s=project.shift_s, report_s=project.table_report_s)
