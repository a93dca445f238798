"""A gap in Dagster: the check of a handler stays failed over runs, until the job `acknowledge_gap` has a reason."""

from dataclasses import dataclass

import dagster as dg

from binlogsync import Change
from binlogsync.duckfile import META_SCHEMA
from binlogsync.wire.subjects import stream_name
from pipelines.operator_jobs import AcknowledgeConfig
from pipelines.tables import table_consumer
from tests.e2e.dagster_world import World
from tests.nats_commands import purge_stream


@dataclass
class Note:
    """A row of `notes`."""

    id: int


def ignore(change: Change[Note]) -> None:
    """Does nothing."""


def test_a_gap_of_a_handler_stays_failed_until_it_is_acknowledged(world: World) -> None:
    notes = table_consumer(Note, ignore, table=f"{world.source}.notes")
    built = world.definitions(notes, shift_s=1.5)
    check = dg.AssetCheckKey(notes.key, "no_gap")

    def change(number: int) -> None:
        world.mysql.execute("INSERT INTO notes (id) VALUES (%s)", (number,))
        world.mysql.execute("INSERT INTO orders (id) VALUES (%s)", (number,))
        assert world.tail(built).success

    def is_passed() -> bool:
        found = world.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check].event
        assert found is not None
        assert found.dagster_event is not None
        return bool(found.dagster_event.asset_check_evaluation_data.passed)

    change(1)
    assert world.consume(built, notes).success
    assert is_passed()
    change(2)
    purge_stream(world.environment["BINLOGSYNC_NATS_URL"], stream_name(world.source), keep=1)
    for number in (3, 4):
        change(number)
        assert world.consume(built, notes).success
        assert not is_passed()
    config = AcknowledgeConfig(table=f"{world.source}.notes", reason="2 was a test")
    run_config = dg.RunConfig(ops={"acknowledge_gaps_of_table": config})
    job = built.resolve_job_def("acknowledge_gap")
    assert job.execute_in_process(instance=world.instance, run_config=run_config).success
    assert is_passed()
    assert world.rows(f"SELECT resolution FROM {META_SCHEMA}.gaps") == [("2 was a test",)]
