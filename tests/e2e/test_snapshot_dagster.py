"""A snapshot in Dagster: one job requests it, the job of the tail carries it out, and a handler gets the rows."""

from contextlib import closing
from typing import Any

import dagster as dg
import pytest

from binlogsync import Change
from binlogsync.nats.client import NatsOptions
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from dagster_binlogsync.operations.snapshots import SnapshotConfig
from dagster_binlogsync.tables import table_consumer
from tests.e2e.dagster_project import DagsterProject, NotesTableRow

SHIFTS = 20
seen: list[tuple[str, int | None]] = []


def note(change: Change[NotesTableRow]) -> None:
    """Keep op and key."""
    seen.append((change.op, change.after.id if change.after else None))


def test_the_tail_carries_out_what_the_job_requests(project: DagsterProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.mysql.execute("INSERT INTO notes VALUES (1, 'a'), (2, 'b'), (3, NULL)")
    status = project.mysql.execute("SHOW BINARY LOG STATUS")[0]
    monkeypatch.setenv("BINLOGSYNC_START", f"{status[0]}:{status[1]}")
    notes = table_consumer(NotesTableRow, note, table=f"{project.source}.notes")
    built = project.definitions(notes, shift_s=3.0)
    project.mysql.execute("INSERT INTO notes VALUES (4, 'd')")
    assert project.tail(built).success

    def control(**config: Any) -> bool:
        job = built.resolve_job_def(f"snapshot_{project.source}")
        run_config = dg.RunConfig(ops={f"snapshot_{project.source}_now": SnapshotConfig(**config)})
        return job.execute_in_process(instance=project.instance, run_config=run_config, raise_on_error=False).success

    assert control(tables=[f"{project.source}.*"], wait=False)
    with closing(
        NatsSnapshotRequests(NatsOptions(url=project.environment["BINLOGSYNC_NATS_URL"]), project.source)
    ) as made:

        def carry_out() -> str:
            """Run the tail until the newest request has ended; its id."""
            for _ in range(SHIFTS):
                job = built.resolve_job_def(f"tail_{project.source}")
                assert job.execute_in_process(instance=project.instance).success
                if made.list()[-1].status.has_ended:
                    break
            assert made.list()[-1].status.state == "done"
            return made.list()[-1].request.id

        id = carry_out()
        assert control(action="status", snapshot=id)
        assert not control(action="cancel", snapshot=id)
        seen.clear()
        assert project.consume(built, notes).success
        assert seen == [("c", 4), ("r", 1), ("r", 2), ("r", 3), ("r", 4)]
        seen.clear()
        assert not control(tables=[f"{project.source}.*"], consumer="nobody", wait=False)
        assert control(tables=[f"{project.source}.*"], consumer="dagster", where="id > 2", wait=False)
        carry_out()
        assert project.consume(built, notes).success
        assert seen == [("r", 3), ("r", 4)]
