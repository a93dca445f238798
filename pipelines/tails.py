"""Defaults of the options of the tails, for all sources; the Launchpad shows and overrides them."""

from binlogsync.settings import Settings
from dagster_binlogsync.tail.job import TailConfig


def tail_config(settings: Settings) -> TailConfig:
    """The options that settings have: those of the tail, and length and reports of its runs."""
    tail, project = settings.values.tail, settings.values.dagster
    return TailConfig(**tail.model_dump(), shift_s=project.shift_s, report_s=project.report_s)
