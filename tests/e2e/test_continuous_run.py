"""The continuous run of consumers: tables stay live, block alone, are lent to other runs, and survive a kill."""

from __future__ import annotations

import signal

import dagster as dg
import pytest

from binlogsync.stores.sqlite import SQLitePositionStore
from dagster_binlogsync.keys import consumers_key, consumers_lease, continuous_job_name, continuous_sensor_name
from dagster_binlogsync.tags import CODE_TAG, END_TAG, LOAD_TAG
from tests.duck import locked_by_another
from tests.e2e.continuous_process import tables
from tests.e2e.continuous_runs import Continuous, checks_of
from tests.e2e.dagster_project import DagsterProject
from tests.e2e.test_consumer_runs import start, status


@pytest.mark.exhaustive
def test_healthy_tables_show_checks_that_passed(live: Continuous) -> None:
    names = {live.orders: ("handled", "backlog", "no_gap", "fresh"), live.notes: ("handled", "backlog", "no_gap")}
    for table, checks in names.items():
        live.wait(
            lambda table=table, checks=checks: all(checks_of(live.project.instance, table, *checks).values()),  # type: ignore[misc]
            f"the checks of {table.name}",
        )
    live.change("INSERT INTO orders VALUES (2, 'b', 1, NULL)")
    live.wait(lambda: live.has_mirrored(2), "another change, after the checks")
    storage = live.project.instance.event_log_storage
    keys = [dg.AssetCheckKey(live.orders.key, name) for name in names[live.orders]]
    runs = {record.run_id for record in storage.get_latest_asset_check_execution_by_key(keys).values()}
    assert runs == {live.run.run_id}, "only then does the asset graph count them for later materializations"
    assert live.end() == dg.DagsterRunStatus.SUCCESS


@pytest.mark.exhaustive
def test_a_reader_that_keeps_the_warehouse_open_is_named_in_the_check_and_nothing_fails(live: Continuous) -> None:
    instance, checks = live.project.instance, ("handled", "backlog")
    live.wait(lambda: all(checks_of(instance, live.orders, *checks).values()), "the checks")
    with locked_by_another(live.project.folder / "warehouse.duckdb", tries_s=60.0) as reader:
        live.change("INSERT INTO orders VALUES (2, 'b', 1, NULL)", "INSERT INTO notes VALUES (2, 'b')")
        live.wait(lambda: checks_of(instance, live.orders, "backlog") == {"backlog": False}, "the warning")
        key = dg.AssetCheckKey(live.orders.key, "backlog")
        found = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].evaluation
        assert found is not None
        assert f"process {reader.pid} (" in (found.description or "")
        assert found.severity == dg.AssetCheckSeverity.WARN
        assert checks_of(instance, live.orders, "handled") == {"handled": True}
        assert reader.stdin is not None
        reader.stdin.close()
        live.wait(lambda: live.has_mirrored(2), "the change")
        live.wait(lambda: all(checks_of(instance, live.orders, *checks).values()), "the checks afterwards")
    with locked_by_another(live.project.folder / "warehouse.duckdb", tries_s=60.0):
        live.change("INSERT INTO orders VALUES (3, 'c', 1, NULL)")
        assert live.end() == dg.DagsterRunStatus.SUCCESS, "the stop ends the wait"


def test_tables_stay_live_and_a_failing_handler_blocks_its_own_table(live: Continuous) -> None:
    project, bad = live.project, live.project.folder / "bad"
    bad.touch()
    live.change("INSERT INTO orders VALUES (2, 'b', 1, NULL)", "INSERT INTO notes VALUES (2, 'b')")
    live.wait(lambda: live.has_mirrored(2), "the mirror")
    live.wait(lambda: status(project, live.notes.key) == "FAILED", "the failed check")
    live.change("INSERT INTO orders VALUES (3, 'c', 1, NULL)", "INSERT INTO notes VALUES (3, 'c')")
    live.wait(lambda: live.has_mirrored(3), "the mirror while the handler is blocked")
    assert live.handled() == [1]
    bad.unlink()
    live.wait(lambda: live.handled() == [1, 2, 3], "the blocked changes, in order")
    live.wait(lambda: status(project, live.notes.key) == "SUCCEEDED", "the check")
    assert live.end() == dg.DagsterRunStatus.SUCCESS
    assert any(text.startswith("ended (the definitions were reloaded) after ") for text in live.messages())
    [record, *_] = project.instance.fetch_observations(consumers_key(project.source), limit=1).records
    assert record.asset_observation is not None
    shown = record.asset_observation.metadata
    rows = {str(row.data["table"]): row.data["state"] for row in shown["lag_by_table"].value.records}  # type: ignore[union-attr]
    assert rows == {str(live.orders.name): "live", str(live.notes.name): "live"}
    found = project.instance.fetch_materializations(live.orders.key, limit=10).records
    assert any(each.asset_materialization and "lag_s" in each.asset_materialization.metadata for each in found)
    project.assert_mirrored("orders")


def test_another_run_gets_a_table_and_gives_it_back_and_a_terminated_run_holds_the_sensor(live: Continuous) -> None:
    done = live.project.consume(live.built, live.orders)
    assert done.success
    assert [event.asset_key for event in done.get_asset_materialization_events()] == [live.orders.key]
    said = [text.user_message for text in live.project.instance.all_logs(done.run_id) if not text.is_dagster_event]
    waited = f"run {live.run.run_id} of {live.run.job_name} keeps {live.orders.name} live"
    assert any(waited in text for text in said)
    assert f"run {done.run_id} consumes {live.orders.name} now" in live.messages()
    live.wait(lambda: f"{live.orders.name} is live again" in live.messages(), "the table to be taken up again")
    live.change("INSERT INTO orders VALUES (2, 'b', 1, NULL)")
    live.wait(lambda: live.has_mirrored(2), "a later change")

    live.project.instance.report_run_canceling(live.run)
    assert live.join() == dg.DagsterRunStatus.CANCELED
    requests, skipped = live.project.tick(live.built, continuous_sensor_name(live.project.source))
    assert (requests, "was stopped by a user" in skipped) == ([], True)


@pytest.mark.exhaustive
def test_a_table_of_another_run_is_taken_up_when_that_run_has_ended(live: Continuous) -> None:
    assert live.end() == dg.DagsterRunStatus.SUCCESS
    job = live.built.resolve_job_def(f"consume_{live.project.source}")
    other = live.project.instance.create_run_for_job(job, tags={CODE_TAG: "x"}, asset_selection={live.orders.key})
    start(live.project, other)
    live.change("INSERT INTO orders VALUES (2, 'b', 1, NULL)", "INSERT INTO notes VALUES (2, 'b')")
    live.start()
    live.wait(lambda: live.handled() == [1, 2], "the handler")
    assert live.has_mirrored(1)
    live.project.instance.report_run_canceled(other)
    live.wait(lambda: live.has_mirrored(2), "the table of the other run")


def test_nothing_is_lost_or_doubled_when_the_run_is_killed(live: Continuous) -> None:
    project = live.project
    for number in range(2, 40):
        project.mysql.execute(f"INSERT INTO orders VALUES ({number}, 'a', 1, NULL)")
        project.mysql.execute(f"INSERT INTO notes VALUES ({number}, 'a')")
    live.change()
    live.wait(lambda: len(live.handled()) > 5, "some changes")
    assert live.process is not None
    live.process.send_signal(signal.SIGKILL)
    live.process.wait(60)
    project.instance.report_run_failed(live.run)
    live.change("INSERT INTO orders VALUES (40, 'a', 1, NULL)", "INSERT INTO notes VALUES (40, 'a')")
    live.start()
    live.wait(lambda: live.has_mirrored(40) and live.handled()[-1] == 40, "all changes")
    project.assert_mirrored("orders")
    first_seen = list(dict.fromkeys(live.handled()))
    assert first_seen == list(range(1, 41)), "at least once, in order"


def test_the_sensor_keeps_one_run_and_ends_it_after_a_reload(
    project: DagsterProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINLOGSYNC_CONSUME", "continuous")
    assets = tables(project.folder, project.source)
    built, sensor = project.definitions(*assets), continuous_sensor_name(project.source)
    [request], _ = project.tick(built, sensor)
    assert request.tags[LOAD_TAG]
    job = built.resolve_job_def(continuous_job_name(project.source))
    run = project.instance.create_run_for_job(job, tags={**job.tags, **request.tags})
    start(project, run)
    store = SQLitePositionStore(project.folder / "positions.db")
    store.leases.claim(consumers_lease(project.source), run.run_id)
    store.close()
    requests, skipped = project.tick(built, sensor)
    assert (requests, "is alive" in skipped) == ([], True)
    reloaded = project.definitions(*assets)
    requests, skipped = project.tick(reloaded, sensor)
    assert (requests, "has the code before the reload" in skipped) == ([], True)
    found = project.instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.tags[END_TAG] == "the definitions were reloaded"
    project.instance.report_run_canceled(found)
    requests, skipped = project.tick(reloaded, sensor)
    assert (requests, "was stopped by a user" in skipped) == ([], True)
