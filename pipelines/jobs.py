"""The job of one op: what most jobs here are."""

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
    """In the process of its run, which is never retried: what it does goes on where it ended when it is run again."""

    @dg.job(
        name=name,
        executor_def=dg.in_process_executor,
        tags={**(tags or {}), "dagster/max_retries": "0"},
        config=config,  # type: ignore[arg-type]  # None is its default, though its overload does not say so
        description=description,
    )
    def _job() -> None:
        op()

    return _job
