"""The job `check_<source>` and its hourly schedule: the checks that no run reports, and that cost little.

These are the checks of the binlog, and `fresh` of mirrors, which also finds consumers that do not run. Checks that read
whole tables in MySQL are left to the job `verify_<source>`.
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from dagster_binlogsync.keys import safe_part


def build_check_job(source: str, checks: Iterable[dg.AssetChecksDefinition]) -> Any:
    """The job `check_<source>` of these checks, of which those that read whole tables are left out."""
    cheap = [step for step in checks if not {key.name for key in step.check_keys} & {"equals_source", "row_count"}]
    return dg.define_asset_job(
        f"check_{safe_part(source)}",
        selection=dg.AssetSelection.checks(*cheap),
        executor_def=dg.in_process_executor,
        description=f"Checks server, positions and stream of {source}, and whether its mirrors are fresh.",
    )


def build_check_schedule(source: str, *, running: bool) -> dg.ScheduleDefinition:
    """The schedule `check_<source>_hourly`."""
    return dg.ScheduleDefinition(
        name=f"check_{safe_part(source)}_hourly",
        job_name=f"check_{safe_part(source)}",
        cron_schedule="11 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED,
        description=f"Every hour, checks server, positions and stream of {source}, and whether its mirrors are fresh.",
    )
