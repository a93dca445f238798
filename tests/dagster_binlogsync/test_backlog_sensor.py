"""For which tables the backlog sensor requests runs, with a real (ephemeral) instance."""

import time
from collections.abc import Iterator

import dagster as dg
import pytest

from dagster_binlogsync.run_status import UNFINISHED
from dagster_binlogsync.sensors.backlog import (
    RetryRules,
    WatchedTable,
    request_runs,
    stop_outdated_runs,
)
from dagster_binlogsync.tags import CODE_TAG, CONSUMER_TAG, END_TAG, FAILED_TAG

ORDERS = WatchedTable("shop", "orders", dg.AssetKey(["tables", "main", "shop", "orders"]), "orders", "main.shop.orders")
HOLES = WatchedTable(
    "treehole", "holes", dg.AssetKey(["tables", "main", "treehole", "holes"]), "holes", "main.treehole.holes"
)


@dg.asset(key=ORDERS.key)
def orders() -> None: ...


@dg.asset(key=HOLES.key)
def holes() -> None: ...


JOB = dg.define_asset_job("consume", selection=[orders, holes])
CONSUME = dg.Definitions([orders, holes], jobs=[JOB]).resolve_job_def("consume")


def ask(instance: dg.DagsterInstance, orders: int, holes: int, now: float | None = None) -> list[list[dg.AssetKey]]:
    """The assets of each requested run, with these numbers of waiting messages."""
    found = look(instance, orders, holes, now)
    if isinstance(found, dg.SkipReason):
        return []
    return [list(request.asset_selection or []) for request in found.run_requests or []]


def look(
    instance: dg.DagsterInstance, orders: int, holes: int, now: float | None = None
) -> dg.SensorResult | dg.SkipReason:
    clock = time.time if now is None else lambda: now
    return request_runs(instance, "consume", {ORDERS: orders, HOLES: holes}, RetryRules(first_s=30, max_s=900), clock)


def add_run(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    *tables: WatchedTable,
    held_up: WatchedTable | None = None,
) -> float:
    """Time of its creation."""
    tags = {FAILED_TAG: held_up.key.to_user_string()} if held_up else {}
    selection = {table.key for table in tables} or None
    instance.create_run_for_job(CONSUME, status=status, tags=tags, asset_selection=selection)
    return instance.get_run_records(limit=1)[0].create_timestamp.timestamp()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_one_run_is_requested_and_includes_tables_without_a_backlog(instance: dg.DagsterInstance) -> None:
    assert ask(instance, 7, 3) == ask(instance, 7, 0) == [[ORDERS.key, HOLES.key]]
    found = look(instance, 7, 0)
    assert isinstance(found, dg.SensorResult)
    assert found.run_requests
    assert found.run_requests[0].tags[CONSUMER_TAG] == "main.shop.orders"


def test_no_run_without_a_backlog(instance: dg.DagsterInstance) -> None:
    found = look(instance, 0, 0)
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "2 table(s) without a backlog"


def test_the_skip_reason_has_counts_and_a_few_blocked_tables(instance: dg.DagsterInstance) -> None:
    keys = [dg.AssetKey(["t", str(n)]) for n in range(500)]
    tables = [WatchedTable("shop", f"t{n}\x1b", key, f"t{n}", f"main.shop.t{n}") for n, key in enumerate(keys)]
    tag = " ".join(key.to_user_string() for key in keys[:5])
    instance.create_run_for_job(CONSUME, status=dg.DagsterRunStatus.FAILURE, tags={FAILED_TAG: tag})
    add_run(instance, dg.DagsterRunStatus.STARTED, ORDERS)
    backlog = {ORDERS: 9} | dict.fromkeys(tables[:5], 7) | dict.fromkeys(tables[5:], 0)
    found = request_runs(instance, "consume", backlog, RetryRules())
    assert isinstance(found, dg.SkipReason)
    said = found.skip_message or ""
    assert said.startswith(
        "1 table(s) being consumed; 495 table(s) without a backlog; shop.t0\\x1b: blocked with 7 message(s) waiting, "
    )
    assert said.endswith("; 2 more blocked")
    assert len(said) < 400


def test_a_run_with_older_code_is_requested_to_end_once(instance: dg.DagsterInstance) -> None:
    old, new = "0" * 16, "1" * 16
    for tags in ({CODE_TAG: old}, {CODE_TAG: new}, {}):
        instance.create_run_for_job(
            CONSUME, status=dg.DagsterRunStatus.STARTED, tags=tags, asset_selection={ORDERS.key, HOLES.key}
        )
    run = instance.get_runs(dg.RunsFilter(tags={CODE_TAG: old}))[0]
    later = time.time() + 60
    assert stop_outdated_runs(instance, [ORDERS.key], old, later) == [
        other.run_id for other in instance.get_runs(dg.RunsFilter(tags={CODE_TAG: new}))
    ]
    assert stop_outdated_runs(instance, [dg.AssetKey("other")], new, later) == []
    assert not stop_outdated_runs(instance, [ORDERS.key], new, 1.0), (
        "the run started after these definitions were loaded"
    )
    assert stop_outdated_runs(instance, [ORDERS.key], new, later) == [run.run_id]
    asked = instance.get_run_by_id(run.run_id)
    assert asked is not None
    assert "reloaded" in asked.tags[END_TAG]
    assert stop_outdated_runs(instance, [ORDERS.key], new, later) == []


def test_a_run_of_another_job_without_a_selection_is_not_requested_to_end(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def other() -> None: ...

    job = dg.Definitions([other], jobs=[dg.define_asset_job("consume_b", [other])]).resolve_job_def("consume_b")
    for each in (job, CONSUME):
        instance.create_run_for_job(each, status=dg.DagsterRunStatus.STARTED, tags={CODE_TAG: "0"})
    [own] = instance.get_runs(dg.RunsFilter(job_name="consume"))
    assert stop_outdated_runs(instance, [ORDERS.key], "1", time.time() + 60) == [own.run_id]


def test_a_table_of_a_run_of_a_job_of_the_project_is_left_out(instance: dg.DagsterInstance) -> None:
    job = dg.Definitions([orders], jobs=[dg.define_asset_job("own", [orders])]).resolve_job_def("own")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={CODE_TAG: "0"})
    assert ask(instance, 7, 2) == [[HOLES.key]]


@pytest.mark.parametrize("status", [status for status in UNFINISHED if status.value != "QUEUED"])
def test_a_table_of_an_active_run_is_left_out(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> None:
    add_run(instance, status, ORDERS)
    assert ask(instance, 7, 2) == [[HOLES.key]]
    assert ask(instance, 7, 0) == []


def test_a_run_of_the_whole_job_includes_all_tables(instance: dg.DagsterInstance) -> None:
    add_run(instance, dg.DagsterRunStatus.STARTED)
    assert ask(instance, 7, 7) == []


def test_a_finished_run_does_not_count(instance: dg.DagsterInstance) -> None:
    add_run(instance, dg.DagsterRunStatus.SUCCESS, ORDERS, HOLES)
    assert ask(instance, 7, 0) == [[ORDERS.key, HOLES.key]]


def test_a_blocked_table_backs_off_and_the_others_do_not(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        at = add_run(instance, dg.DagsterRunStatus.FAILURE, ORDERS, HOLES, held_up=HOLES)
    assert ask(instance, 7, 7, at + 100) == [[ORDERS.key]]
    assert ask(instance, 0, 7, at + 100) == []
    early = look(instance, 0, 7, at + 100)
    assert isinstance(early, dg.SkipReason)
    assert "treehole.holes: blocked with 7 message(s) waiting, next attempt in 20 s" in (early.skip_message or "")
    assert ask(instance, 0, 7, at + 121) == [[ORDERS.key, HOLES.key]]


def test_runs_of_other_tables_do_not_reset_its_failures(instance: dg.DagsterInstance) -> None:
    add_run(instance, dg.DagsterRunStatus.FAILURE, HOLES, held_up=HOLES)
    at = add_run(instance, dg.DagsterRunStatus.FAILURE, HOLES, held_up=HOLES)
    add_run(instance, dg.DagsterRunStatus.SUCCESS, ORDERS)
    assert ask(instance, 0, 7, at + 50) == []
    assert ask(instance, 0, 7, at + 61) == [[ORDERS.key, HOLES.key]]


def test_a_run_that_died_counts_against_all_its_tables(instance: dg.DagsterInstance) -> None:
    at = add_run(instance, dg.DagsterRunStatus.FAILURE, ORDERS, HOLES)
    assert ask(instance, 7, 7, at + 10) == []
    assert ask(instance, 7, 7, at + 31) == [[ORDERS.key, HOLES.key]]


def test_new_code_is_tried_without_backoff(instance: dg.DagsterInstance) -> None:
    at = add_run(instance, dg.DagsterRunStatus.FAILURE, HOLES, held_up=HOLES)
    assert ask(instance, 0, 7, at + 10) == []
    instance.add_run_tags(instance.get_runs(limit=1)[0].run_id, {END_TAG: "reloaded"})
    assert ask(instance, 0, 7, at + 10) == [[ORDERS.key, HOLES.key]]


def test_backoff_has_a_maximum() -> None:
    rules = RetryRules(first_s=30, max_s=900)
    assert [rules.wait_s(failures, 0) for failures in range(8)] == [0, 30, 60, 120, 240, 480, 900, 900]
