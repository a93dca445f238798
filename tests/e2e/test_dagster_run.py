"""The Dagster project on real servers: the tail's job, the sensors' decisions, the consumers' assets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
from duckdb import DuckDBPyConnection

from binlogsync import Change, Retry
from binlogsync.targets.duckdb.file import DuckFile
from dagster_binlogsync.operations.decisions import SkipConfig
from dagster_binlogsync.tables import AssetOptions, mirror, table_consumer
from tests.e2e.dagster_project import DagsterProject, NotesTableRow
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def on_note(change: Change[NotesTableRow], connection: DuckDBPyConnection) -> None:
    """Store each version of each note."""
    connection.execute("CREATE TABLE IF NOT EXISTS versions (op VARCHAR, before VARCHAR, after VARCHAR)")
    before, after = (image.text if image else None for image in (change.before, change.after))
    connection.execute("INSERT INTO versions VALUES (?, ?, ?)", [change.op, before, after])


def refuse(change: Change[NotesTableRow]) -> None:
    """Fail always."""
    raise ValueError("not today")


class OneNoteFailingHandler:
    """Handles every note except one."""

    def __init__(self, number: int) -> None:
        self.number, self.handled = number, list[int]()

    def __call__(self, change: Change[NotesTableRow]) -> None:
        assert change.after is not None
        if change.after.id == self.number:
            raise ValueError("not this one")
        self.handled.append(change.after.id)


def materialization(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> Mapping[str, Any]:
    events = [event for event in result.get_asset_materialization_events() if event.asset_key == key]
    return {name: value.value for name, value in events[-1].materialization.metadata.items()}


def assert_progress_reported(project: DagsterProject) -> None:
    """The tail has reported a shift with two changes of `orders` and one of `notes`."""
    last = _observations(project)[0].asset_observation
    assert last is not None
    assert last.metadata["changes_this_shift"].value == 3
    assert isinstance(last.metadata["lag_s"].value, float)
    assert str(last.metadata["gtid_set"].value)
    for table, changes in (("orders", 2), ("notes", 1)):
        key = dg.AssetKey(["nats", project.source, project.source, table])
        records = project.instance.fetch_materializations(key, limit=10).records
        assert [
            record.asset_materialization.metadata["changes"].value for record in records if record.asset_materialization
        ] == [changes]


def test_from_the_binlog_to_the_mirror_and_the_handler(project: DagsterProject) -> None:
    orders = mirror(f"{project.source}.orders")
    notes = table_consumer(
        NotesTableRow, on_note, table=f"{project.source}.notes", options=AssetOptions(shows=("main", "versions"))
    )
    built = project.definitions(orders, notes)
    assert "no stream" in project.tick(built, f"consume_{project.source}")[1].lower()

    project.mysql.execute(
        "INSERT INTO orders VALUES (1, 'Ada', 12.50, '2026-01-02 03:04:05.678'), (2, NULL, -0.05, NULL)"
    )
    project.mysql.execute("INSERT INTO notes VALUES (1, 'first')")
    assert project.tail(built).success
    assert_progress_reported(project)
    asked, _ = project.tick(built, f"consume_{project.source}")
    assert [request.asset_selection for request in asked] == [[orders.key, notes.key]]
    assert project.consume(built, orders, notes).success
    project.assert_mirrored("orders")

    project.mysql.execute("UPDATE orders SET total = total + 1, id = id + 10 WHERE id = 1")
    project.mysql.execute("DELETE FROM orders WHERE id = 2")
    project.mysql.execute("UPDATE notes SET text = 'second' WHERE id = 1")
    project.mysql.execute("DELETE FROM notes")
    assert project.tail(built).success
    done = project.consume(built, orders, notes)
    assert done.success
    project.assert_mirrored("orders")
    expected = [("c", None, "first"), ("u", "first", "second"), ("d", "second", None)]
    assert project.rows("SELECT * FROM versions") == expected
    assert "2 table(s) without a backlog" in project.tick(built, f"consume_{project.source}")[1]

    shown = materialization(done, orders.key)
    assert (shown["updated"], shown["deleted"], shown["created"], shown["dagster/row_count"]) == (1, 1, 0, 1)
    assert "13.50" not in str(shown), "row values stay out of Dagster unless a setting allows them"
    checks = [check for check in done.get_asset_check_evaluations() if check.asset_key == orders.key]
    assert {check.check_name: check.passed for check in checks} == {
        "handled": True,
        "backlog": True,
        "no_gap": True,
        "row_count": True,
        "equals_source": True,
        "fresh": True,
    }
    equal = next(check for check in checks if check.check_name == "equals_source")
    assert equal.metadata["mysql_rows"].value == 1
    with DuckFile(project.folder / "audit.duckdb").transaction() as connection:
        assert connection.execute("SELECT count(*) FROM changes").fetchone() == (7,)


def test_a_failing_handler_blocks_its_own_table_only(project: DagsterProject) -> None:
    orders = mirror(f"{project.source}.orders")
    notes = table_consumer(
        NotesTableRow, refuse, table=f"{project.source}.notes", retry=Retry(tries=5, first_wait_s=0.01)
    )
    built = project.definitions(orders, notes)
    project.mysql.execute("INSERT INTO notes VALUES (1, 'first')")
    project.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1, NULL)")
    project.publish()
    done = project.consume(built, orders, notes)
    assert not done.success
    data: Any = next(event.step_failure_data for event in done.all_events if event.is_step_failure)
    assert "not today" in data.user_failure_data.description
    assert data.user_failure_data.metadata["tries"].value == 5
    assert "refuse" in data.user_failure_data.metadata["traceback"].value
    project.assert_mirrored("orders")
    assert materialization(done, orders.key)["changes"] == 1
    assert {event.asset_key for event in done.get_asset_materialization_events()} == {orders.key}
    checks = {
        (check.asset_key, check.check_name): check.passed
        for check in done.get_asset_check_evaluations()
        if check.check_name == "handled"
    }
    assert checks == {(orders.key, "handled"): True, (notes.key, "handled"): False}
    [seen] = project.instance.fetch_observations(notes.key, limit=10).records
    assert seen.asset_observation is not None
    assert str(seen.asset_observation.metadata["change_id"].value).endswith(":0")
    asked, said = project.tick(built, f"consume_{project.source}")
    assert [key for request in asked for key in request.asset_selection or ()] == [orders.key, notes.key], said


def test_the_operator_skips_the_change_that_blocks_a_table(project: DagsterProject) -> None:
    refused = OneNoteFailingHandler(2)
    notes = table_consumer(
        NotesTableRow, refused, table=f"{project.source}.notes", retry=Retry(tries=2, first_wait_s=0.01)
    )
    built = project.definitions(notes)
    project.mysql.execute("INSERT INTO notes VALUES (1, 'good'), (2, 'bad'), (3, 'good')")
    project.publish()
    assert not project.consume(built, notes).success
    [seen] = project.instance.fetch_observations(notes.key, limit=10).records
    assert seen.asset_observation is not None
    change_id = str(seen.asset_observation.metadata["change_id"].value)

    def skip(change: str) -> dg.ExecuteInProcessResult:
        config = SkipConfig(table=f"{project.source}.notes", change_id=change, reason="a test row", by="Ada")
        return built.resolve_job_def(f"skip_change_{project.source}").execute_in_process(
            instance=project.instance,
            run_config=dg.RunConfig(ops={f"skip_one_change_{project.source}": config}),
            raise_on_error=False,
        )

    assert not skip(change_id[:-1] + "7").success
    assert skip(change_id).success
    done = project.consume(built, notes)
    assert done.success
    assert refused.handled == [1, 3]
    shown = materialization(done, notes.key)
    assert (shown["skipped_ever"], shown["skipped_because"], shown["changes"]) == (1, "a test row", 1)
    assert "Ada (run " in shown["skipped_by"]
    observed = project.instance.fetch_observations(notes.key, limit=10).records[0].asset_observation
    assert observed is not None
    assert change_id in str(observed.metadata["skipped_change"].value)
    with DuckFile(project.folder / "audit.duckdb").transaction() as connection:
        assert connection.execute("SELECT change_id, reason FROM skips").fetchall() == [(change_id, "a test row")]


def test_a_signal_stops_a_consumer_cleanly(project: DagsterProject) -> None:
    orders = mirror(f"{project.source}.orders")
    built = project.definitions(orders)
    project.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1, NULL)")
    project.publish()
    with ThreadPoolExecutor(1) as other:
        other.submit(_interrupt_when, lambda: _is_mirrored(project))
        done = project.consume(built, orders, idle_s=120)
    assert done.success
    assert materialization(done, orders.key)["changes"] == 1


def test_terminate_lets_the_tail_flush_and_the_keeper_holds(project: DagsterProject) -> None:
    built = project.definitions()
    environment = {
        **os.environ,
        **project.environment,
        "DAGSTER_HOME": str(project.folder),
        "BINLOGSYNC_FLUSH_INTERVAL_S": "3600",
        "BINLOGSYNC_REPORT_S": "0.2",
    }
    command = [
        sys.executable,
        "-m",
        "dagster",
        "job",
        "execute",
        "-m",
        "pipelines.definitions",
        "-j",
        f"tail_{project.source}",
    ]
    keeper = f"keep_{project.source}_tailed"
    assert [request.run_key for request in project.tick(built, keeper)[0]] == [f"{project.source}:after:none"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(project.lease, 60, "the tail to claim its lease")
            wait_until(lambda: _observations(project), 60, "the tail's first observation")
            assert "alive" in project.tick(built, keeper)[1]
            project.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1, NULL)")
            inserted_s = time.time()
            run = project.instance.get_runs(dg.RunsFilter(tags={"binlogsync/source": project.source}))[0]
            wait_until(lambda: _is_read(project, inserted_s), 60, "the row to be read")
            project.instance.report_run_canceling(run)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()
    ended = project.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.CANCELED
    lease = project.lease()
    assert lease is not None
    assert lease.released
    with DuckFile(project.folder / "audit.duckdb").transaction() as connection:
        assert connection.execute("SELECT count(*) FROM changes").fetchone() == (1,)
    assert "switch this sensor off and on" in project.tick(built, keeper)[1]


def _interrupt_when(condition: Callable[[], bool]) -> None:
    """Send SIGTERM to this process, which handles it at that time."""
    wait_until(condition, 60, "a row in the mirror")
    os.kill(os.getpid(), signal.SIGTERM)


def _is_mirrored(project: DagsterProject) -> bool:
    with DuckFile(project.folder / "warehouse.duckdb").transaction() as connection:
        known = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'orders'"
        return connection.execute(known).fetchall() == [(1,)]


def _observations(project: DagsterProject) -> Sequence[dg.EventLogRecord]:
    return project.instance.fetch_observations(dg.AssetKey(["mysql", project.source, "binlog"]), limit=10).records


def _is_read(project: DagsterProject, inserted_s: float) -> bool:
    """True when two reports after that time show a lag: the tail has read a row, and has not flushed it."""
    reports = [record for record in _observations(project) if record.timestamp > inserted_s]
    lags = [record.asset_observation.metadata["lag_s"].value for record in reports if record.asset_observation]
    return sum(isinstance(lag, float) and lag > 0 for lag in lags) >= 2
