"""Coordination of consumer runs through Dagster's run storage: which run consumes a table, and when a run has to end.

Reload definitions replaces the code server with its sensors, but a run keeps the code that it started with. Each run is
therefore tagged with its code version, and after a reload the backlog sensor requests older runs to end.
"""

from collections.abc import Collection, Mapping, Sequence

import dagster as dg

from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.run_status import find_run_end
from dagster_binlogsync.tags import CODE_TAG, END_TAG


def tag_code(context: dg.AssetExecutionContext, code: str) -> None:
    """Tag the run with the version of its code."""
    context.instance.add_run_tags(context.run.run_id, {CODE_TAG: code})


def find_stop_reason(context: dg.AssetExecutionContext) -> str | None:
    """The reason to end the run early. None if it should continue."""
    if (reason := find_run_end(context.instance, context.run.run_id)) is not None:
        return reason
    run = context.instance.get_run_by_id(context.run.run_id)
    return None if run is None else run.tags.get(END_TAG)


def exclude_active_tables(
    context: dg.AssetExecutionContext, selected: Sequence[ConsumerSpec]
) -> Sequence[ConsumerSpec]:
    """The tables that no other run consumes; logs a warning for the others. Groups of mirrors are not split."""
    active_runs = _find_other_runs(context, [item.name.consumer_key for item in selected])
    groups = {item.together for item in selected if item.together is not None and item.name.consumer_key in active_runs}
    free = [item for item in selected if item.name.consumer_key not in active_runs and item.together not in groups]
    for run in {run.run_id: run for run in active_runs.values()}.values():
        names = [str(item.name) for item in selected if active_runs.get(item.name.consumer_key) is run]
        context.log.warning(
            f"run {run.run_id} of {run.job_name} is already consuming {', '.join(names)}; this run leaves them out. "
            "To consume them in this run, terminate that run first"
        )
    return free


def _find_other_runs(
    context: dg.AssetExecutionContext, keys: Collection[dg.AssetKey]
) -> Mapping[dg.AssetKey, dg.DagsterRun]:
    """The assets that an earlier run, still STARTED, consumes: a durable consumer serves only one run at a time."""
    own = context.instance.get_run_record_by_id(context.run.run_id)
    if own is None or own.start_time is None:
        return {}
    others: dict[dg.AssetKey, dg.DagsterRun] = {}
    for record in context.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run = record.dagster_run
        started = (record.start_time or 0.0, run.run_id)
        if CODE_TAG in run.tags and started < (own.start_time, own.dagster_run.run_id):
            shared = keys if run.asset_selection is None else run.asset_selection & set(keys)
            others |= dict.fromkeys(shared, run)
    return others
