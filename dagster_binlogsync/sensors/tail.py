"""The tail sensor ("keeper"): checks every ten seconds whether the tail of a source is alive, and starts it if not.

The sensor collects the facts (recent runs by tag, lease, time at which it was switched on) and applies the decision of
the pure function `binlogsync.tail.supervision.decide_action`. If the position store is not reachable, the tick fails
and no run is started, because only the lease shows whether a tail is alive. After Terminate of a tail run the sensor
starts no new run until it is switched off and on.
"""

import time
from collections.abc import Callable, Mapping

import dagster as dg

from binlogsync.escaping import markdown
from binlogsync.stores import Lease
from binlogsync.tail.supervision import Decision, RunState, SupervisionRules, TailObservation, TailRun, decide_action
from dagster_binlogsync.keys import tail_alive_key, tail_job_name, tail_sensor_name
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.positions import Positions
from dagster_binlogsync.tags import SOURCE_TAG, WHY_TAG

RECENT_RUNS = 25

_STATES: dict[dg.DagsterRunStatus, RunState] = {
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.NOT_STARTED: "queued",
    dg.DagsterRunStatus.MANAGED: "queued",
    dg.DagsterRunStatus.STARTING: "starting",
    dg.DagsterRunStatus.STARTED: "started",
    dg.DagsterRunStatus.CANCELING: "canceling",
    dg.DagsterRunStatus.SUCCESS: "success",
    dg.DagsterRunStatus.FAILURE: "failure",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


def build_tail_sensor(
    source: str,
    *,
    running: bool = False,
    interval_s: int = 10,
    rules: SupervisionRules | None = None,
    keys: ResourceKeys | None = None,
) -> dg.SensorDefinition:
    """The sensor `keep_<source>_tailed`. `running` is its default status.

    It requests runs of the job `tail_<source>`, and evaluates the check `tail_alive` when the tail is found dead, and
    when it is alive again.
    """
    rules, keys, check = rules or SupervisionRules(), keys or ResourceKeys(), tail_alive_key(source)

    @dg.sensor(
        name=tail_sensor_name(source),
        job_name=tail_job_name(source),
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Keeps exactly one tail of {source} alive. To stop it, terminate its run; to restart it, switch this "
            "sensor off and on."
        ),
        required_resource_keys=keys.require(("positions",)),
    )
    def _keep(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        evidence = gather_evidence(
            context.instance, source, keys.find(context).positions, context.last_sensor_start_time
        )
        decision = decide_action(evidence, rules)
        result = apply_decision(context.instance, source, decision)
        alive = is_tail_alive(decision, evidence.lease, rules)
        if alive is None or context.cursor == str(alive):
            return result
        evaluation = dg.AssetCheckEvaluation(
            asset_key=check.asset_key, check_name=check.name, passed=alive, description=markdown(decision.reason)
        )
        return add_evaluation(result, evaluation, str(alive))

    return _keep


def gather_evidence(
    instance: dg.DagsterInstance,
    source: str,
    positions: Positions,
    watched_since: float | None,
    clock: Callable[[], float] = time.time,
    *,
    tags: Mapping[str, str] | None = None,
    lease_name: str | None = None,
    what: str = "tail",
) -> TailObservation:
    """Collect the facts for the decision: runs by tag, and a lease; by default those of the tail.

    Raises StoreError if the position store cannot be read.
    """
    records = instance.get_run_records(dg.RunsFilter(tags=tags or {SOURCE_TAG: source}), limit=RECENT_RUNS)
    runs = tuple(
        TailRun(
            record.dagster_run.run_id,
            _STATES[record.dagster_run.status],
            record.create_timestamp.timestamp(),
            record.start_time,
            record.end_time,
        )
        for record in records
    )
    with positions.store() as store:
        lease = store.leases.load(lease_name or source)
    return TailObservation(source, runs, lease, clock(), watched_since, what)


def is_tail_alive(decision: Decision, lease: Lease | None, rules: SupervisionRules) -> bool | None:
    """Whether the tail is alive. None for the seconds between the end of one run and the start of the next."""
    if lease is not None and not lease.released and lease.age_s <= rules.stale_s:
        return True
    if decision.action in ("hold", "back_off", "fail_then_start"):
        return False
    return None if lease is None or lease.age_s <= rules.start_grace_s else False


def add_evaluation(
    result: dg.SensorResult | dg.SkipReason, evaluation: dg.AssetCheckEvaluation, cursor: str
) -> dg.SensorResult:
    """Add the evaluation of a check to the result of a tick."""
    if isinstance(result, dg.SkipReason):
        return dg.SensorResult(skip_reason=result, asset_events=[evaluation], cursor=cursor)
    return dg.SensorResult(run_requests=result.run_requests, asset_events=[evaluation], cursor=cursor)


def apply_decision(
    instance: dg.DagsterInstance, source: str, decision: Decision, tags: Mapping[str, str] | None = None
) -> dg.SensorResult | dg.SkipReason:
    """Mark dead runs as failed, then request a new run or return the skip reason."""
    for run_id in decision.failed:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, f"the sensor of {source}: {decision.reason}")
    if decision.run_key is None:
        return dg.SkipReason(decision.reason)
    request = dg.RunRequest(run_key=decision.run_key, tags={WHY_TAG: decision.reason[:200], **(tags or {})})
    return dg.SensorResult(run_requests=[request])
