"""A project whose continuous run is a process of its own. With the fixture `live`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import pytest

from dagster_binlogsync.consume.run_coordination import request_end
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tags import CONTINUOUS_TAG
from tests.e2e.continuous_process import tables
from tests.e2e.dagster_project import OF_THE_INSTANCE, DagsterProject
from tests.forked import ForkedProcess
from tests.waiting import wait_until


@dataclass
class Continuous:
    """A project with continuous consumers, and the process of its current run."""

    project: DagsterProject
    orders: TableAsset
    notes: TableAsset
    built: dg.Definitions
    process: ForkedProcess | None = None

    @property
    def run(self) -> dg.DagsterRun:
        """The latest continuous run."""
        found = self.project.instance.get_runs(dg.RunsFilter(tags={CONTINUOUS_TAG: self.project.source}), limit=1)
        return found[0]

    def messages(self) -> list[str]:
        """What the run has logged."""
        logs = self.project.instance.all_logs(self.run.run_id)
        return [entry.user_message for entry in logs if not entry.is_dagster_event]

    def start(self) -> None:
        """Start a run."""
        arguments = (str(self.project.folder), self.project.source)
        with (self.project.folder / "continuous.log").open("ab") as log:
            self.process = ForkedProcess(
                "tests.e2e.continuous_process", *arguments, imports=OF_THE_INSTANCE, stdout=log, stderr=log
            )

    def change(self, *statements: str) -> None:
        """Execute the statements, and publish them."""
        for statement in statements:
            self.project.mysql.execute(statement)
        self.project.publish()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition while the process runs."""
        assert self.process is not None
        wait_until(lambda: self.process is None or self.process.poll() is not None or condition(), 60, what)
        log = (self.project.folder / "continuous.log").read_text()[-2000:]
        assert self.process.poll() is None, f"the run ended while the test waited for {what}: {log}"

    def has_mirrored(self, count: int) -> bool:
        """Whether the mirror has so many rows."""
        found = self.project.rows("SELECT 1 FROM information_schema.tables WHERE table_name = 'orders'")
        return bool(found) and self.project.rows(f'SELECT count(*) FROM "{self.project.source}".orders') == [(count,)]

    def handled(self) -> list[int]:
        """Ids of the notes that the handler got."""
        path = self.project.folder / "notes.txt"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def end(self) -> dg.DagsterRunStatus:
        """Request the end, as the sensor does after a reload; returns the status of the run."""
        request_end(self.project.instance, {CONTINUOUS_TAG: self.project.source}, "the definitions were reloaded")
        return self.join()

    def join(self) -> dg.DagsterRunStatus:
        """Wait for the end of the process; returns the status of the run."""
        assert self.process is not None
        self.process.wait(120)
        return self.run.status


def checks_of(instance: dg.DagsterInstance, table: TableAsset, *names: str) -> dict[str, bool | None]:
    """Whether the latest evaluation of each check passed; None if there is none."""
    keys = [dg.AssetCheckKey(table.key, name) for name in names]
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    passed = {key.name: record.evaluation.passed for key, record in found.items() if record.evaluation}
    return {name: passed.get(name) for name in names}


@contextmanager
def ended(made: Continuous) -> Iterator[Continuous]:
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait(60)


@pytest.fixture
def live(project: DagsterProject, monkeypatch: pytest.MonkeyPatch) -> Iterator[Continuous]:
    """A project whose continuous run was started."""
    monkeypatch.setenv("BINLOGSYNC_CONSUME", "continuous")
    monkeypatch.setenv("BINLOGSYNC_TABLE_REPORT_S", "1")
    orders, notes = tables(project.folder, project.source)
    with ended(Continuous(project, orders, notes, project.definitions(orders, notes))) as made:
        made.change("INSERT INTO orders VALUES (1, 'a', 1, NULL)", "INSERT INTO notes VALUES (1, 'a')")
        made.start()
        made.wait(lambda: made.has_mirrored(1) and made.handled() == [1], "the first changes")
        yield made
