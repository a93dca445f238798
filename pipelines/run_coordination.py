"""What a consumer run asks Dagster of itself and of the runs beside it: shall it end, and who has its tables.

The backlog sensor runs in the code server, which a Reload replaces; a run keeps the code that it was started with. So
each run is tagged with its code, and the sensor asks a run that was started before the Reload, with other code, to end.
"""

from collections.abc import Collection, Mapping

import dagster as dg

from sensors.backlog import CODE_TAG, END_TAG


def tag_code(context: dg.AssetExecutionContext, code: str) -> None:
    """Tag the run with the code that it runs."""
    context.instance.add_run_tags(context.run.run_id, {CODE_TAG: code})


def is_terminated(context: dg.AssetExecutionContext) -> bool:
    """True when a person ended the run, or it was marked as ended while no signal could reach it.

    A signal alone (Ctrl-C, a shutdown) is a stop: the run ends early and with success, since progress is stored.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    return run is None or run.status != dg.DagsterRunStatus.STARTED


def find_stop_reason(context: dg.AssetExecutionContext) -> str | None:
    """A reason to end before the time, None to go on."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is None or run.status != dg.DagsterRunStatus.STARTED:
        return "the run was ended"
    reason: str | None = run.tags.get(END_TAG)
    return reason


def find_other_runs(
    context: dg.AssetExecutionContext, keys: Collection[dg.AssetKey]
) -> Mapping[dg.AssetKey, dg.DagsterRun]:
    """Those of these assets that a run which STARTED earlier has: two runs of a table would fight for its durable."""
    own = context.instance.get_run_record_by_id(context.run.run_id)
    if own is None or own.start_time is None:
        return {}
    found: dict[dg.AssetKey, dg.DagsterRun] = {}
    for record in context.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run = record.dagster_run
        started = (record.start_time or 0.0, run.run_id)
        if CODE_TAG in run.tags and started < (own.start_time, own.dagster_run.run_id):
            mine = keys if run.asset_selection is None else run.asset_selection & set(keys)
            found |= dict.fromkeys(mine, run)
    return found
