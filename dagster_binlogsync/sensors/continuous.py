"""The sensor that keeps the continuous run of consumers alive: checks it every ten seconds, starts it if it is dead.

The decision is that of the tail sensor (binlogsync/tail/supervision.py), from runs by tag and from the lease of the
run. After a Reload of the definitions, the run that the former definitions started is requested to end, also before
the end of its shift; the next run has the new code. After Terminate the sensor starts no new run until it is switched
off and on.
"""

import time
import uuid
from collections.abc import Callable

import dagster as dg

from binlogsync.tail.supervision import SupervisionRules, decide_action
from dagster_binlogsync.consume.run_coordination import find_continuous_run, request_end
from dagster_binlogsync.keys import consume_job_name, consumers_lease, continuous_job_name, continuous_sensor_name
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.sensors.tail import apply_decision, gather_evidence
from dagster_binlogsync.tags import CONTINUOUS_TAG, END_TAG, LOAD_TAG

RELOADED = "the definitions were reloaded"
NOT_CONTINUOUS = "the setting `consume` is continuous now"


def build_continuous_sensor(
    source: str,
    *,
    running: bool = False,
    interval_s: int = 10,
    rules: SupervisionRules | None = None,
    keys: ResourceKeys | None = None,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """The sensor `keep_<source>_consumed` of the job `consume_<source>_continuously`. `running` is its default status.

    Each call makes another load id: runs of former sensors that started before it are requested to end.
    """
    load, loaded_at = uuid.uuid4().hex[:12], clock()
    rules, keys = rules or SupervisionRules(), keys or ResourceKeys()

    @dg.sensor(
        name=continuous_sensor_name(source),
        job_name=continuous_job_name(source),
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Keeps one run alive that keeps the consumers of {source} live. To stop it, terminate its run; to restart "
            "it, switch this sensor off and on."
        ),
        required_resource_keys=keys.require(("positions",)),
    )
    def _keep(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        # The sensor of the backlog was in use before the setting was changed; it has the name of its job.
        request_end(instance, {"dagster/sensor_name": consume_job_name(source)}, NOT_CONTINUOUS)
        evidence = gather_evidence(
            instance,
            source,
            keys.find(context).positions,
            context.last_sensor_start_time,
            tags={CONTINUOUS_TAG: source},
            lease_name=consumers_lease(source),
            what="continuous run of consumers",
        )
        run = find_continuous_run(instance, source)
        started = next((each.started or each.created for each in evidence.runs if run and each.run_id == run.run_id), 0)
        is_old = run is not None and is_outdated(run.tags.get(LOAD_TAG), started, load, loaded_at)
        if run is not None and is_old and END_TAG not in run.tags:
            request_end(instance, {CONTINUOUS_TAG: source}, RELOADED)
            return dg.SkipReason(f"run {run.run_id[:8]} has the code before the reload, and is requested to end")
        return apply_decision(instance, source, decide_action(evidence, rules), {LOAD_TAG: load})

    return _keep


def is_outdated(run_load: str | None, run_started: float, load: str, loaded_at: float) -> bool:
    """Whether a run has other code than the definitions: another load requested it, and it started before this one.

    A run that a user launched has no load id; it has the code of the definitions that were loaded when it started. The
    second condition also keeps two code servers with different loads from ending the runs of each other in turn.
    """
    return run_load != load and run_started < loaded_at
