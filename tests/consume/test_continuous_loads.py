"""A mirror of a continuous pool that has to be loaded again, which can take hours: the others of its file stay live."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.live_state import LiveState
from binlogsync.consume.pool import ConsumerTask
from binlogsync.consume.progress import ProgressKey
from binlogsync.mirror.apply import RebuildReason
from binlogsync.mirror.target import Mirror
from binlogsync.targets.mirror_options import MirrorOptions
from tests.consume.test_continuous import ALL, TABLES, SixTables, live, mirror, stream  # noqa: F401 - a fixture
from tests.samples import SampleTransaction


class MirrorWithLongLoad(Mirror):
    """A mirror with another key than its table, so that the table has to be loaded; a load lasts until `end`."""

    def __init__(self, path: Path, table: str) -> None:
        super().__init__(path, "shop", table, options=MirrorOptions(key=("id",)))
        self.begun, self.end = threading.Event(), threading.Event()

    def rebuild_before(self, reason: RebuildReason, following: ChangeBatch, key: ProgressKey) -> None:
        """Load the table. Without a source, it then fails."""
        self.begun.set()
        self.end.wait(60)
        super().rebuild_before(reason, following, key)


@pytest.mark.parametrize("first", [ALL, SampleTransaction((0,))], ids=["beside others", "alone"])
def test_a_load_does_not_delay_the_other_mirrors_of_the_file(
    stream: SixTables,  # noqa: F811
    tmp_path: Path,
    first: SampleTransaction,
) -> None:
    path, others = tmp_path / "w.duckdb", TABLES[1:]
    stream.write(ALL)
    with live(stream, [mirror(table, path) for table in TABLES]) as running:
        running.wait(lambda: all(running.changes[table] == 1 for table in TABLES), "the first changes")
    loaded = MirrorWithLongLoad(path, "t0")
    tasks = [ConsumerTask(("shop", "t0"), loaded, ConsumeOptions()), *(mirror(table, path) for table in others)]
    with live(stream, tasks) as running:
        running.wait_quiet()
        stream.write(first)
        running.wait(loaded.begun.is_set, "the load")
        for _ in range(3):
            stream.write(ALL)
            running.wait(
                lambda: all(running.changes[table] == len(stream.ids[table]) - 1 for table in others), "all changes"
            )
        assert not loaded.end.is_set()
        assert not running.errors.get("t0")
        loaded.end.set()
        running.wait(lambda: running.errors.get("t0") is not None, "the error of the load")
        assert "give the mirror a connection to its source" in str(running.errors["t0"])
        assert not {report.table for report in running.reports if report.error is not None} - {("shop", "t0")}


def test_a_mirror_is_applied_with_others_again_after_its_changes_were_applied(tmp_path: Path) -> None:
    state = LiveState(mirror("t0", tmp_path / "w.duckdb"), 0, 0.0)
    scopes = [state.scope]
    for until_applied in (True, False):  # False: after a failure of unknown cause, for some time
        state.set_alone(until_applied=until_applied)
        scopes.append(state.scope)
        state.set_healthy()
        scopes.append(state.scope)
    assert scopes == [str(tmp_path / "w.duckdb"), None, str(tmp_path / "w.duckdb"), None, None]
