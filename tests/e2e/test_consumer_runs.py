"""A consumer run beside others: leaves tables to the run that has them, ends for new code, shows a block at once."""

from dataclasses import dataclass

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType

from binlogsync import Change, Retry
from pipelines.tables import mirror, table_consumer
from sensors.backlog import CODE_TAG, END_TAG
from tests.e2e.dagster_world import World


@dataclass
class Note:
    """A row of `notes`."""

    id: int


def status(world: World, key: dg.AssetKey) -> str:
    """Of the check `handled`, as its page shows it."""
    check = dg.AssetCheckKey(key, "handled")
    return world.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check].status.value


def start(world: World, run: dg.DagsterRun) -> None:
    """As its process would report it."""
    event = DagsterEvent(DagsterEventType.PIPELINE_START.value, run.job_name, message="started")
    world.instance.report_dagster_event(event, run.run_id)


def test_a_table_that_another_run_has_is_left_to_it(world: World) -> None:
    orders, notes = mirror(f"{world.mysql.name}.orders"), mirror(f"{world.mysql.name}.notes")
    built = world.definitions(orders, notes)
    world.mysql.execute("INSERT INTO orders VALUES (1, 'a', 1, NULL)")
    world.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    assert world.tail(built).success
    job = built.resolve_job_def(f"consume_{world.source.replace('-', '_')}")
    other = world.instance.create_run_for_job(job, tags={CODE_TAG: "x"}, asset_selection={orders.key})
    start(world, other)
    done = world.consume(built, orders, notes)
    assert done.success
    assert [event.asset_key for event in done.get_asset_materialization_events()] == [notes.key]
    said = [entry.user_message for entry in world.instance.all_logs(done.run_id) if not entry.is_dagster_event]
    assert any(f"run {other.run_id} of {job.name} is already consuming {orders.name}; " in text for text in said)
    world.instance.report_run_canceled(other)
    assert world.consume(built, orders).success
    world.assert_mirrored("orders")


def test_a_block_is_red_at_once_and_a_run_ends_when_it_is_asked_to(world: World) -> None:
    asked: list[int] = []
    seen: list[str] = []

    def on_note(change: Change[Note]) -> None:
        """Fails twice, and then asks its own run to end, as the sensor does after a Reload."""
        asked.append(1)
        if len(asked) < 3:
            raise ValueError("![i](http://x/y)")
        seen.append(status(world, notes.key))
        run = world.instance.get_runs(limit=1)[0]
        world.instance.add_run_tags(run.run_id, {END_TAG: "reloaded with other code"})

    notes = table_consumer(Note, on_note, table=f"{world.mysql.name}.notes", retry=Retry(tries=1))
    built = world.definitions(notes)
    world.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    assert world.tail(built).success
    done = world.consume(built, notes, idle_s=140)
    assert done.success
    said = [entry.user_message for entry in world.instance.all_logs(done.run_id) if not entry.is_dagster_event]
    assert any(text.startswith("stopped (reloaded with other code)") for text in said)
    assert seen == ["FAILED"], "while it was held up, the run being under way"
    assert status(world, notes.key) == "SUCCEEDED"
    run = world.instance.get_run_by_id(done.run_id)
    assert run is not None
    assert CODE_TAG in run.tags
