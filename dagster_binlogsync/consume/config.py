"""Configuration of the runs of consumers, for the Launchpad."""

import dagster as dg
from pydantic import Field

from binlogsync.settings.model import DagsterSection
from dagster_binlogsync.setting_field import setting_field


class TableRunConfig(dg.Config):
    """What all runs of consumers have in common."""

    report_s: float = Field(
        default=60.0, gt=0, description="Seconds between two materializations of a table in a long run."
    )
    retry_s: float = Field(
        default=5.0, gt=0, description="Seconds until a failed table is retried; doubles up to one minute."
    )
    max_workers: int = Field(
        default=32,
        ge=1,
        description="Tables consumed at the same time; further tables share the workers in turns of a few seconds.",
    )
    max_changes: int = Field(default=200_000, ge=1, description="Approximate maximum of changes in one transaction.")
    preview_rows: int = Field(
        default=5, ge=0, description="Rows in the preview of the asset page, if the setting `show_values` is on."
    )


class ConsumeConfig(TableRunConfig):
    """How long a consumer run lasts, and what it reports."""

    idle_s: float = Field(default=60.0, ge=0, description="The run ends after this many seconds without changes.")
    max_s: float = Field(
        default=3600.0, gt=0, description="The run ends after this many seconds; the sensor requests the next one."
    )


class ContinuousConfig(TableRunConfig):
    """Length and reports of a continuous run of consumers."""

    shift_s: float = setting_field(DagsterSection, "shift_s", gt=0)
    report_s: float = setting_field(DagsterSection, "table_report_s", gt=0)
    lag_report_s: float = Field(
        default=60.0, gt=0, description="Seconds between two observations with the lag of each table."
    )
    gather_s: float = Field(
        default=0.3, ge=0, description="Seconds for which changes are collected for a transaction of mirrors."
    )
    max_workers: int = Field(default=32, ge=1, description="Largest number of threads.")
