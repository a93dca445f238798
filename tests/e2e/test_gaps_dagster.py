"""A gap in Dagster: the check of a handler fails in all runs, until the job `acknowledge_gap` records a reason."""

import dagster as dg
import pytest

from binlogsync import Change
from binlogsync.codec.subjects import stream_name
from binlogsync.targets.duckdb.file import META_SCHEMA
from dagster_binlogsync.operations.decisions import AcknowledgeConfig
from dagster_binlogsync.tables import mirror, table_consumer
from tests.e2e.dagster_project import DagsterProject, NotesTableRow
from tests.nats_commands import purge_stream


def ignore(change: Change[NotesTableRow]) -> None:
    """Do nothing."""


def test_a_gap_of_a_handler_stays_failed_until_it_is_acknowledged(project: DagsterProject) -> None:
    notes = table_consumer(NotesTableRow, ignore, table=f"{project.source}.notes")
    built = project.definitions(notes)
    check = dg.AssetCheckKey(notes.key, "no_gap")

    def change(number: int) -> None:
        project.mysql.execute("INSERT INTO notes (id) VALUES (%s)", (number,))
        project.mysql.execute("INSERT INTO orders (id) VALUES (%s)", (number,))
        project.publish()

    def is_passed() -> bool:
        found = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check].event
        assert found is not None
        assert found.dagster_event is not None
        return bool(found.dagster_event.asset_check_evaluation_data.passed)

    change(1)
    assert project.consume(built, notes).success
    assert is_passed()
    change(2)
    purge_stream(project.environment["BINLOGSYNC_NATS_URL"], stream_name(project.source), keep=1)
    for number in (3, 4):
        change(number)
        assert project.consume(built, notes).success
        assert not is_passed()
    config = AcknowledgeConfig(table=f"{project.source}.notes", reason="2 was a test")
    run_config = dg.RunConfig(ops={f"acknowledge_gaps_{project.source}": config})
    job = built.resolve_job_def(f"acknowledge_gap_{project.source}")
    assert job.execute_in_process(instance=project.instance, run_config=run_config).success
    assert is_passed()
    assert project.rows(f"SELECT resolution FROM {META_SCHEMA}.gaps") == [("2 was a test",)]


@pytest.mark.exhaustive
def test_a_table_without_new_messages_is_read_again_when_the_stream_dropped_some(project: DagsterProject) -> None:
    notes = mirror(f"{project.source}.notes")
    built = project.definitions(notes)
    sensor = f"consume_{project.source}"

    def change(*tables: str) -> None:
        for table in tables:
            project.mysql.execute(f"INSERT INTO {table} (id) SELECT coalesce(max(id), 0) + 1 FROM {table}")
        project.publish()

    def is_requested() -> bool:
        return bool(project.tick(built, sensor)[0])

    change("notes")
    assert is_requested()
    assert project.consume(built, notes).success
    project.assert_mirrored("notes")
    assert not is_requested()
    change("notes", "orders")
    purge_stream(project.environment["BINLOGSYNC_NATS_URL"], stream_name(project.source), keep=1)
    assert is_requested(), "nothing is pending, but the change of the mirrored table is gone"
    assert project.consume(built, notes).success
    project.assert_mirrored("notes")
    assert not is_requested()
    change(*["orders"] * 30)
    assert is_requested(), "before the stream drops the messages after the progress"
    assert project.consume(built, notes).success
    assert not is_requested()
    assert project.rows(f"SELECT count(*) FROM {META_SCHEMA}.gaps") == [(1,)]
