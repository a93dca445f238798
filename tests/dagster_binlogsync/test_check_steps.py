"""Checks of many tables in few steps: any subset, several errors, and names of the steps."""

from typing import Any

import dagster as dg
import pytest

from binlogsync.errors import SinkError, TargetBusyError
from dagster_binlogsync import ResourceKeys, TableAsset, mirror
from dagster_binlogsync.checks import check_step
from dagster_binlogsync.checks.check_step import Evaluate, build_check_steps

TABLES = [mirror(f"shop.{name}", source="main") for name in ("a", "b", "c", "d")]
KEYS = {str(table.name): dg.AssetCheckKey(table.key, "good") for table in TABLES}


def evaluate(context: Any, resources: Any, table: TableAsset) -> dg.AssetCheckResult:
    if table.name.table in "cd":
        raise SinkError("NATS is away")
    return dg.AssetCheckResult(passed=table.name.table == "a", description=table.name.table)


def evaluate_held(context: Any, resources: Any, table: TableAsset) -> dg.AssetCheckResult:
    """Another program has the warehouse open when the second table is checked."""
    if table.name.table == "a":
        return dg.AssetCheckResult(passed=True)
    assert table.name.table == "b", "the other tables do not wait for the same file"
    raise TargetBusyError("w.duckdb was locked by process 7 (reader)", "w.duckdb")


def build(evaluated: Evaluate = evaluate) -> list[dg.AssetChecksDefinition]:
    return build_check_steps("good", "main", TABLES, str, evaluated, set(), ResourceKeys())


def run(*names: str, evaluated: Evaluate = evaluate) -> dg.ExecuteInProcessResult:
    keys = [KEYS[f"shop.{name}"] for name in names]
    job = dg.define_asset_job("job", dg.AssetSelection.checks(*keys))
    specs = [table.spec for table in TABLES]
    defs = dg.Definitions(specs, asset_checks=build(evaluated), jobs=[job], executor=dg.in_process_executor)
    return defs.resolve_job_def("job").execute_in_process(raise_on_error=False)


def results(done: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.asset_key.path[-1]: check.passed for check in done.get_asset_check_evaluations()}


def test_only_the_selected_checks_are_evaluated() -> None:
    done = run("b")
    assert done.success
    assert results(done) == {"b": False}


def test_an_error_of_one_table_leaves_the_others_their_results() -> None:
    done = run("a", "b", "c", "d")
    assert not done.success
    assert results(done) == {"a": True, "b": False}
    [failure] = [event for event in done.all_events if event.is_step_failure]
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    assert data.user_failure_data.description == "shop.c: SinkError: NATS is away\nshop.d: SinkError: NATS is away"


def test_a_warehouse_that_another_program_has_open_is_a_warning() -> None:
    done = run("a", "b", "c", "d", evaluated=evaluate_held)
    assert done.success
    assert results(done) == {"a": True, "b": False, "c": False, "d": False}
    others = [check for check in done.get_asset_check_evaluations() if not check.passed]
    assert {check.severity for check in others} == {dg.AssetCheckSeverity.WARN}
    assert {check.description for check in others} == {"Not checked: w.duckdb was locked by process 7 (reader)"}


def test_many_tables_are_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_step, "TABLES_OF_STEP", 3)
    assert [step.op.name for step in build()] == ["main_good", "main_good_2"]
    assert build_check_steps("good", "main", [], str, evaluate, set(), ResourceKeys()) == []
