"""Jobs of an operator beside a continuous run (rewind, skip, verify, repair), and another BINLOGSYNC_CONSUME."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.targets.duckdb.file import quote
from dagster_binlogsync.keys import consume_job_name
from tests.e2e.continuous_runs import Continuous
from tests.e2e.test_consumer_runs import status
from tests.e2e.test_repair_commands import change

pytestmark = [pytest.mark.server, pytest.mark.slow]


def run(live: Continuous, job: str, op: str, **config: Any) -> dg.ExecuteInProcessResult:
    """Run the job of that name (of this source) with the configuration of its op."""
    name = f"{job}_{live.project.source}"
    return live.built.resolve_job_def(name).execute_in_process(
        instance=live.project.instance, run_config={"ops": {op: {"config": config}}}, raise_on_error=False
    )


def _message_of(reader: StreamReader, note: int) -> int:
    """The stream sequence of the insert of a note."""
    found = reader.changes_from(reader.source, "notes", 1)
    while found[0].batch.ddl is not None or found[0].batch.data.column("after").field("id")[0].as_py() != note:
        found = reader.changes_from(reader.source, "notes", found[-1].last_sequence + 1)
    return found[0].last_sequence


@pytest.mark.exhaustive
def test_a_rewound_handler_gets_the_changes_again(live: Continuous) -> None:
    live.change("INSERT INTO notes VALUES (2, 'b')", "INSERT INTO notes VALUES (3, 'c')")
    live.wait(lambda: live.handled() == [1, 2, 3], "the changes")
    source, url = live.project.source, live.project.environment["BINLOGSYNC_NATS_URL"]
    with StreamReader(NatsOptions(url=url), source) as reader:
        sequence = _message_of(reader, 2)
    done = run(
        live, "rewind", f"rewind_{source}_consumer", table=str(live.notes.name), to=f"seq:{sequence}",
        reason="a bug in the handler",
    )  # fmt: skip
    assert done.success
    live.wait(lambda: live.handled() == [1, 2, 3, 2, 3], "the changes after the position, again")
    live.change("INSERT INTO notes VALUES (4, 'd')")
    live.wait(lambda: live.handled() == [1, 2, 3, 2, 3, 4], "a later change")


@pytest.mark.exhaustive
def test_a_skipped_change_unblocks_its_table(live: Continuous) -> None:
    (live.project.folder / "bad").touch()
    live.change("INSERT INTO notes VALUES (2, 'b')", "INSERT INTO notes VALUES (3, 'c')")
    live.wait(lambda: status(live.project, live.notes.key) == "FAILED", "the failed check")
    [seen, *_] = live.project.instance.fetch_observations(live.notes.key, limit=1).records
    assert seen.asset_observation is not None
    change_id = str(seen.asset_observation.metadata["change_id"].value)
    done = run(
        live, "skip_change", f"skip_one_change_{live.project.source}", table=str(live.notes.name), reason="a test row",
        change_id=change_id,
    )  # fmt: skip
    assert done.success
    (live.project.folder / "bad").unlink()
    live.wait(lambda: live.handled() == [1, 3], "the change after the skipped one")
    live.wait(lambda: status(live.project, live.notes.key) == "SUCCEEDED", "the check")


@pytest.mark.exhaustive
def test_verify_finds_a_difference_and_repairs_it_beside_the_run(live: Continuous) -> None:
    project, op = live.project, f"{live.project.source}_equals_source"
    live.change("INSERT INTO orders VALUES (2, 'b', 2, NULL), (3, 'c', 3, NULL)")
    live.wait(lambda: live.has_mirrored(3), "the mirror")
    table = quote(project.source, "orders")
    change(project.folder / "warehouse.duckdb", f"UPDATE {table} SET customer = 'x' WHERE id = 2")

    def equals(**config: Any) -> bool:
        found = run(live, "verify", op, **config).get_asset_check_evaluations()
        return next(each.passed for each in found if each.check_name == "equals_source")

    assert not equals()
    assert equals(repair=True)
    project.assert_mirrored("orders")
    live.change("INSERT INTO orders VALUES (4, 'd', 4, NULL)")
    live.wait(lambda: live.has_mirrored(4), "a later change")
    project.assert_mirrored("orders")


@pytest.mark.exhaustive
def test_a_mirror_is_rebuilt_beside_the_run(live: Continuous) -> None:
    project, source = live.project, live.project.source
    change(project.folder / "warehouse.duckdb", f"DELETE FROM {quote(source, 'orders')}")
    live.change("INSERT INTO orders VALUES (2, 'b', 2, NULL)")
    done = run(
        live,
        "rewind",
        f"rewind_{source}_consumer",
        table=str(live.orders.name),
        to="head",
        reason="damaged",
        rebuild=True,
    )
    assert done.success, done.all_events
    live.wait(lambda: live.has_mirrored(2), "the rebuilt mirror")
    live.change("INSERT INTO orders VALUES (3, 'c', 3, NULL)")
    live.wait(lambda: live.has_mirrored(3), "a later change")
    project.assert_mirrored("orders")


@pytest.mark.exhaustive
def test_the_run_ends_when_the_setting_is_no_longer_continuous(
    live: Continuous, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINLOGSYNC_CONSUME", "on_backlog")
    project = live.project
    built = project.definitions(live.orders, live.notes)
    live.change("INSERT INTO orders VALUES (2, 'b', 2, NULL)")
    sensor = consume_job_name(project.source)
    project.tick(built, sensor)
    assert live.join() == dg.DagsterRunStatus.SUCCESS
    live.change("INSERT INTO orders VALUES (3, 'c', 3, NULL)")
    requests, said = project.tick(built, sensor)
    assert [key for request in requests for key in request.asset_selection or ()] == [
        live.orders.key,
        live.notes.key,
    ], said
    assert project.consume(built, live.orders, live.notes).success
    project.assert_mirrored("orders")
