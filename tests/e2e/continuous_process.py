"""A process with the continuous run of a mirror `orders` and a handler of `notes`, to be forked.

The handler appends the id of each note to the file `notes.txt`, and fails while the file `bad` exists.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from binlogsync import Change, Retry
from binlogsync.settings import Settings
from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.keys import continuous_job_name
from dagster_binlogsync.options import build_tail_config
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tables import mirror, table_consumer
from pipelines.definitions import build_deployment
from tests.e2e.dagster_project import NotesTableRow


def tables(folder: Path, database: str) -> tuple[TableAsset, TableAsset]:
    """The mirror and the handler."""

    def on_note(change: Change[NotesTableRow]) -> None:
        if (folder / "bad").exists():
            raise ValueError("not today")
        assert change.after is not None
        with (folder / "notes.txt").open("a") as file:
            file.write(f"{change.after.id}\n")

    notes = table_consumer(NotesTableRow, on_note, table=f"{database}.notes", retry=Retry(tries=1))
    return mirror(f"{database}.orders"), notes


def main(home: str, database: str) -> int:
    """Execute the run in the folder `home`; returns the exit code."""
    folder = Path(home)
    settings = Settings.read(folder)
    consumers = ConsumerDefinitions(tables(folder, database), (), ())
    built = build_deployment(settings, consumers, build_tail_config(settings), running=False)
    job = built.resolve_job_def(continuous_job_name(database))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        return 0 if job.execute_in_process(instance=instance, raise_on_error=False).success else 1
