"""Builds jobs of one op, the shape of most jobs of this project."""

from collections.abc import Mapping

import dagster as dg


def build_job(
    op: dg.OpDefinition,
    name: str,
    description: str,
    *,
    tags: Mapping[str, str] | None = None,
    config: dg.RunConfig | None = None,
) -> dg.JobDefinition:
    """Build a job that runs its op in the process of the run. Runs are never retried: a new run resumes the work."""

    @dg.job(
        name=name,
        executor_def=dg.in_process_executor,
        tags={**(tags or {}), "dagster/max_retries": "0"},
        config=config,  # type: ignore[arg-type]  # None is the default, though the overload does not allow it
        description=description,
    )
    def _job() -> None:
        op()

    return _job
