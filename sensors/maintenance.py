"""What a project adds to the sensors of `build_definitions`: here the nightly deletion of old runs of all its jobs."""

import dagster as dg

from dagster_binlogsync.operations.maintenance import build_prune_schedule, prune_job


def build_maintenance(*, running: bool) -> dg.Definitions:
    """The job and its schedule, which `running` switches on."""
    return dg.Definitions(jobs=[prune_job], schedules=[build_prune_schedule(running=running)])
