"""Options of tails and of continuous runs from the settings; the Launchpad shows and overrides them."""

from binlogsync.settings import Settings
from dagster_binlogsync.consume.config import ContinuousConfig
from dagster_binlogsync.tail.job import TailConfig


def build_tail_config(settings: Settings) -> TailConfig:
    """The options of the tails that settings have, and length and reports of their runs."""
    tail, project = settings.values.tail, settings.values.dagster
    return TailConfig(
        **tail.model_dump(), shift_s=project.shift_s, report_s=project.report_s, table_lists=project.table_lists
    )


def build_continuous_config(settings: Settings) -> ContinuousConfig | None:
    """The options of continuous runs that settings have; None if consumers run on a backlog."""
    project = settings.values.dagster
    if project.consume != "continuous":
        return None
    return ContinuousConfig(shift_s=project.shift_s, report_s=project.table_report_s)
