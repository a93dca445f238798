"""The assets that a run materializes, also if it has no asset selection.

A run of a whole job has none: its assets are those of its execution plan, which Dagster stores. The job may belong to
another source, or to another code location, so they cannot be those that these definitions have.
"""

from collections import OrderedDict

import dagster as dg

_CACHED_PLANS = 64
_plans: OrderedDict[str, frozenset[dg.AssetKey]] = OrderedDict()  # by snapshot id, which is a hash of the plan


def find_run_assets(instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[dg.AssetKey]:
    """Keys of the assets that the run materializes; none for a run without a selection whose plan is not stored."""
    if run.asset_selection:  # empty for `dg.materialize`, which materializes all assets of its plan
        return frozenset(run.asset_selection)
    snapshot_id = run.execution_plan_snapshot_id
    if snapshot_id is None:
        return frozenset()
    if snapshot_id not in _plans:
        _plans[snapshot_id] = _read_plan(instance, snapshot_id)
        while len(_plans) > _CACHED_PLANS:
            _plans.popitem(last=False)
    return _plans[snapshot_id]


def _read_plan(instance: dg.DagsterInstance, snapshot_id: str) -> frozenset[dg.AssetKey]:
    plan = instance.get_execution_plan_snapshot(snapshot_id)
    outputs = (output for step in plan.steps if step.key in plan.step_keys_to_execute for output in step.outputs)
    keys = (output.properties.asset_key for output in outputs if output.properties is not None)
    return frozenset(key for key in keys if key is not None)
