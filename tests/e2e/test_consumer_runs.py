"""Concurrent consumer runs: a run skips tables of another run, ends for new code, reports a blocked table at once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType

from binlogsync import Change, Retry
from dagster_binlogsync.tables import mirror, table_consumer
from dagster_binlogsync.tags import CODE_TAG, END_TAG
from tests.e2e.dagster_project import DagsterProject, NotesTableRow
from tests.waiting import wait_until


def status(project: DagsterProject, key: dg.AssetKey) -> str:
    """The status of the check `handled`, as its page shows it; "" before its first evaluation."""
    check = dg.AssetCheckKey(key, "handled")
    found = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    return found[check].status.value if check in found else ""


def start(project: DagsterProject, run: dg.DagsterRun) -> None:
    """Report the start of a run as its process would."""
    event = DagsterEvent(DagsterEventType.PIPELINE_START.value, run.job_name, message="started")
    project.instance.report_dagster_event(event, run.run_id)


def test_a_table_of_another_run_is_skipped(project: DagsterProject) -> None:
    orders, notes = mirror(f"{project.mysql.name}.orders"), mirror(f"{project.mysql.name}.notes")
    built = project.definitions(orders, notes)
    project.mysql.execute("INSERT INTO orders VALUES (1, 'a', 1, NULL)")
    project.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    project.publish()
    job = built.resolve_job_def(f"consume_{project.source.replace('-', '_')}")
    other = project.instance.create_run_for_job(job, tags={CODE_TAG: "x"}, asset_selection={orders.key})
    start(project, other)
    done = project.consume(built, orders, notes)
    assert done.success
    assert [event.asset_key for event in done.get_asset_materialization_events()] == [notes.key]
    said = [entry.user_message for entry in project.instance.all_logs(done.run_id) if not entry.is_dagster_event]
    assert any(f"run {other.run_id} of {job.name} is already consuming {orders.name}; " in text for text in said)
    project.instance.report_run_canceled(other)
    assert project.consume(built, orders).success
    project.assert_mirrored("orders")


def test_a_blocked_table_fails_its_check_at_once_and_a_run_ends_on_request(project: DagsterProject) -> None:
    asked: list[int] = []
    seen: list[str] = []

    def on_note(change: Change[NotesTableRow]) -> None:
        """Fail twice, then request the end of the current run, as the sensor does after a reload."""
        asked.append(1)
        if len(asked) < 3:
            raise ValueError("![i](http://x/y)")
        seen.append(status(project, notes.key))
        run = project.instance.get_runs(limit=1)[0]
        project.instance.add_run_tags(run.run_id, {END_TAG: "reloaded with other code"})

    notes = table_consumer(NotesTableRow, on_note, table=f"{project.mysql.name}.notes", retry=Retry(tries=1))
    built = project.definitions(notes)
    project.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    project.publish()
    done = project.consume(built, notes, idle_s=140)
    assert done.success
    said = [entry.user_message for entry in project.instance.all_logs(done.run_id) if not entry.is_dagster_event]
    assert any(text.startswith("stopped (reloaded with other code)") for text in said)
    assert seen == ["FAILED"], "while it was blocked, during the run"
    assert status(project, notes.key) == "SUCCEEDED"
    run = project.instance.get_run_by_id(done.run_id)
    assert run is not None
    assert CODE_TAG in run.tags


def test_a_long_run_reports_the_checks_of_healthy_tables(project: DagsterProject) -> None:
    orders = mirror(f"{project.mysql.name}.orders")
    built = project.definitions(orders)
    project.mysql.execute("INSERT INTO orders VALUES (1, 'a', 1, NULL)")
    project.publish()
    names = ("handled", "backlog", "no_gap", "fresh")
    keys = [dg.AssetCheckKey(orders.key, name) for name in names]
    seen: set[str] = set()

    def end_after_checks() -> None:
        """End the run when all checks have passed."""

        def passed() -> bool:
            found = project.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
            seen.update(key.name for key, record in found.items() if record.status.value == "SUCCEEDED")
            return len(seen) == len(names)

        with suppress(AssertionError):
            wait_until(passed, 30, "the checks")
        run = project.instance.get_runs(limit=1)[0]
        project.instance.add_run_tags(run.run_id, {END_TAG: "the checks were reported"})

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(end_after_checks)
        done = project.consume(built, orders, idle_s=140)
        watching.result()
    assert done.success
    assert seen == set(names)
    assert find_end_reason(project, done.run_id) == "the checks were reported"


def find_end_reason(project: DagsterProject, run_id: str) -> str | None:
    """The reason for which the run was requested to end."""
    run = project.instance.get_run_by_id(run_id)
    return None if run is None else run.tags.get(END_TAG)
