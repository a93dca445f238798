"""Coordination of consumer runs through Dagster's run storage: which run consumes a table, and when a run has to end.

Reload definitions replaces the code server with its sensors, but a run keeps the code that it started with. Each run is
therefore tagged with its code version, and after a reload the backlog sensor requests older runs to end.

A continuous run consumes all tables of its source. Another run of some of them tags itself with WAITS_TAG; the
continuous run finishes the current changes of these tables, leaves them, and answers with RELEASED_TAG. It takes them
up again when the other run has ended. Both look at the storage only after they have written their own tag or status
there, so at least one of two runs that start at the same time notices the other.
"""

import time
from collections.abc import Collection, Mapping, Sequence

import dagster as dg

from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.run_assets import find_run_assets
from dagster_binlogsync.run_status import find_run_end
from dagster_binlogsync.tags import CODE_TAG, CONTINUOUS_TAG, END_TAG, RELEASED_TAG, WAITS_TAG

RELEASE_S = 120.0
_POLL_S = 0.5
AnyContext = dg.AssetExecutionContext | dg.OpExecutionContext


def tag_code(context: AnyContext, code: str) -> None:
    """Tag the run with the version of its code."""
    context.instance.add_run_tags(context.run.run_id, {CODE_TAG: code})


def find_stop_reason(context: AnyContext) -> str | None:
    """The reason to end the run early. None if it should continue."""
    if (reason := find_run_end(context.instance, context.run.run_id)) is not None:
        return reason
    run = context.instance.get_run_by_id(context.run.run_id)
    return None if run is None else run.tags.get(END_TAG)


def exclude_active_tables(
    context: dg.AssetExecutionContext, selected: Sequence[ConsumerSpec]
) -> Sequence[ConsumerSpec]:
    """The tables that no other run consumes; logs a warning for the others. Groups of mirrors are not split."""
    active_runs = _find_other_runs(context, [item.asset_key for item in selected])
    groups = {item.together for item in selected if item.together is not None and item.asset_key in active_runs}
    free = [item for item in selected if item.asset_key not in active_runs and item.together not in groups]
    for run in {run.run_id: run for run in active_runs.values()}.values():
        names = [str(item.name) for item in selected if active_runs.get(item.asset_key) is run]
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
            others |= dict.fromkeys(find_run_assets(context.instance, run) & set(keys), run)
    return others


def wait_for_release(context: dg.AssetExecutionContext, selected: Sequence[ConsumerSpec]) -> None:
    """Wait until the continuous run of the source, if there is one, has left these tables.

    Raises dg.Failure if it does not answer, DagsterExecutionInterruptedError if this run is terminated meanwhile.
    """
    instance, own = context.instance, context.run.run_id
    names = ", ".join(str(item.name) for item in selected)
    ends_at, asked = time.monotonic() + RELEASE_S, None
    while (other := find_continuous_run(instance, selected[0].name.source)) is not None:
        if asked != other.run_id:
            asked = other.run_id
            instance.add_run_tags(own, {WAITS_TAG: asked})
            context.log.info(
                f"run {asked} of {other.job_name} keeps {names} live; waiting until it has finished their current "
                "changes. It takes them up again when this run has ended"
            )
        run = instance.get_run_by_id(own)
        if run is not None and run.tags.get(RELEASED_TAG) == asked:
            return
        if (reason := find_run_end(instance, own)) is not None:
            raise dg.DagsterExecutionInterruptedError(f"{reason} while it waited for run {asked}")
        if time.monotonic() > ends_at:
            raise dg.Failure(
                f"run {asked} of {other.job_name} has not left {names} within {RELEASE_S:.0f} s: one of their handlers "
                "may not return, or the process of that run is dead. Terminate that run, or try again later",
                allow_retries=False,
            )
        time.sleep(_POLL_S)


def find_continuous_run(instance: dg.DagsterInstance, source: str) -> dg.DagsterRun | None:
    """The continuous run of the source that executes now."""
    started = dg.RunsFilter(tags={CONTINUOUS_TAG: source}, statuses=[dg.DagsterRunStatus.STARTED])
    return next(iter(instance.get_runs(started, limit=1)), None)


def find_waiting_runs(
    instance: dg.DagsterInstance, run_id: str, tables: Mapping[tuple[str, str], dg.AssetKey]
) -> tuple[Mapping[str, frozenset[tuple[str, str]]], Sequence[str]]:
    """Consumer runs, with those of the tables that they consume; and the ids of runs that wait for `run_id`."""
    found: dict[str, frozenset[tuple[str, str]]] = {}
    waiting: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if CODE_TAG not in run.tags or run.run_id == run_id:
            continue
        keys = find_run_assets(instance, run)
        if shared := frozenset(table for table, key in tables.items() if key in keys):
            found[run.run_id] = shared
            if run.tags.get(WAITS_TAG) == run_id and run.tags.get(RELEASED_TAG) != run_id:
                waiting.append(run.run_id)
    return found, waiting


def release_tables(instance: dg.DagsterInstance, waiting: str, run_id: str) -> None:
    """Tell a waiting run that this run has left its tables."""
    instance.add_run_tags(waiting, {RELEASED_TAG: run_id})


def request_end(instance: dg.DagsterInstance, tags: Mapping[str, str], reason: str) -> None:
    """Request the STARTED runs with these tags to end."""
    for run in instance.get_runs(dg.RunsFilter(tags=dict(tags), statuses=[dg.DagsterRunStatus.STARTED])):
        if END_TAG not in run.tags:
            instance.add_run_tags(run.run_id, {END_TAG: reason})
