"""Which tables the backlog sensor asks runs for, against a real (ephemeral) instance."""

import dagster as dg
import pytest

from sensors.backlog import CONSUMER_TAG, RetryRules, WatchedTable, requests

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


def asked(found: dg.SensorResult | dg.SkipReason) -> list[dg.AssetKey]:
    if isinstance(found, dg.SkipReason):
        return []
    return [key for request in found.run_requests or [] for key in request.asset_selection or []]


def add_run(instance: dg.DagsterInstance, table: WatchedTable, status: dg.DagsterRunStatus) -> None:
    instance.create_run_for_job(CONSUME, status=status, tags={CONSUMER_TAG: table.run_tag}, asset_selection={table.key})


def test_only_tables_with_a_backlog_are_asked_for() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        found = requests(instance, [ORDERS, HOLES], {ORDERS: 7, HOLES: 0}, RetryRules())
        assert asked(found) == [ORDERS.key]
        assert isinstance(found, dg.SensorResult)
        assert found.run_requests
        assert found.run_requests[0].tags[CONSUMER_TAG] == "main.shop.orders"


def test_nothing_waits() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        found = requests(instance, [ORDERS, HOLES], {ORDERS: 0, HOLES: 0}, RetryRules())
        assert isinstance(found, dg.SkipReason)
        assert "shop.orders: nothing waits" in (found.skip_message or "")


@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
)
def test_a_consumer_at_work_is_left_alone(status: dg.DagsterRunStatus) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        add_run(instance, ORDERS, status)
        assert asked(requests(instance, [ORDERS, HOLES], {ORDERS: 7, HOLES: 2}, RetryRules())) == [HOLES.key]


def test_a_run_launched_by_a_person_counts_too() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.create_run_for_job(CONSUME, status=dg.DagsterRunStatus.STARTED, asset_selection={ORDERS.key})
        assert asked(requests(instance, [ORDERS], {ORDERS: 7}, RetryRules())) == []


def test_a_finished_run_does_not_count() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        add_run(instance, ORDERS, dg.DagsterRunStatus.SUCCESS)
        assert asked(requests(instance, [ORDERS], {ORDERS: 7}, RetryRules())) == [ORDERS.key]


def test_failures_in_a_row_back_off_and_then_it_is_tried_again() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(3):
            add_run(instance, ORDERS, dg.DagsterRunStatus.FAILURE)
        created = instance.get_run_records(limit=1)[0].create_timestamp.timestamp()
        rules = RetryRules(first_s=30, max_s=900)
        early = requests(instance, [ORDERS], {ORDERS: 7}, rules, clock=lambda: created + 100)
        assert isinstance(early, dg.SkipReason)
        assert "next try in 20 s" in (early.skip_message or "")
        assert asked(requests(instance, [ORDERS], {ORDERS: 7}, rules, clock=lambda: created + 121)) == [ORDERS.key]


def test_back_off_ends_at_its_limit() -> None:
    rules = RetryRules(first_s=30, max_s=900)
    assert [rules.wait_s(failures, 0) for failures in range(8)] == [0, 30, 60, 120, 240, 480, 900, 900]
