"""Changes that a mirror refuses: those before them are applied, in all mirrors of its group, and none after them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.progress import NO_PROGRESS, ProgressKey, Tracker
from binlogsync.consume.targets import TableChanges, Target
from binlogsync.errors import MirrorKeyError
from binlogsync.mirror.contract import FrozenColumnsError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.messages import StreamBatch
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.mirror_options import MirrorOptions
from tests.duck import make_batch, query
from tests.mirror.test_mirror_ddl import ROW, SCHEMA, ddl
from tests.published_rows import PublishedAt, publish_rows

FREEZE = MirrorOptions(schema_contract="freeze")
OTHERS = replace(SCHEMA, table="others")
WIDER = replace(SCHEMA, columns=(*SCHEMA.columns, Column("c", "int")))
OLD_SERVER = "11111111-71ca-11e1-9e33-c80aa9429562"


def inserts(schema: TableSchema, *numbers: int, first: int) -> ChangeBatch:
    return make_batch(schema, [("c", None, {**ROW, "id": number}) for number in numbers], first)


def item(batch: ChangeBatch, first: int) -> StreamBatch:
    return StreamBatch(batch, np.arange(first, first + len(batch)), None)


class Group:
    """Mirrors in one file, applied together, with the progress of each."""

    def __init__(self, path: Path, *mirrors: Mirror) -> None:
        self.path = path
        self._target: Target = mirrors[0].join(mirrors[1:]) if len(mirrors) > 1 else mirrors[0]
        keys = (ProgressKey("c", "main", *one.names) for one in mirrors)
        self._trackers = {key.table: Tracker(key, NO_PROGRESS) for key in keys}

    def take(self, **batches: list[StreamBatch]) -> None:
        """Apply these changes of each table; a call that does not end is stopped after some time."""
        stop = threading.Event()
        timer = threading.Timer(30.0, stop.set)
        timer.start()
        try:
            self._target.take([TableChanges(self._trackers[name], items) for name, items in batches.items()], stop)
        finally:
            timer.cancel()
            self._target.store.release()
        assert not stop.is_set()

    def ids(self) -> Mapping[str, list[Any]]:
        """The ids in each table."""
        sql = "SELECT id FROM shop.{} ORDER BY 1"
        return {name: [n for (n,) in query(self.path, sql.format(name))] for name in self._trackers}


def test_refused_rows_of_a_snapshot_end_the_changes(tmp_path: Path) -> None:
    """They have the position of the boundary at which the snapshot read them, as far as earlier changes go."""
    group = Group(tmp_path / "m", Mirror(tmp_path / "m", "shop", "things", options=FREEZE))
    group.take(things=[item(inserts(SCHEMA, 1, first=0), 1)])
    published = item(publish_rows(WIDER, [{**ROW, "id": 9, "c": 1}], PublishedAt("s1", 10, 1100)), 3)
    with pytest.raises(FrozenColumnsError):
        group.take(things=[item(inserts(SCHEMA, 2, first=1), 2), published])
    assert group.ids() == {"things": [1, 2]}
    with pytest.raises(FrozenColumnsError):
        group.take(things=[published])


def test_changes_of_the_old_server_are_applied_before_a_refused_statement(tmp_path: Path) -> None:
    """Positions of two servers cannot be compared without GTIDs: the order of the stream decides."""
    path = tmp_path / "m"
    group = Group(path, Mirror(path, "shop", "things", options=FREEZE), Mirror(path, "shop", "others"))
    old = {
        name: replace(inserts(schema, 1, first=90), server_uuid=OLD_SERVER)
        for name, schema in (("things", SCHEMA), ("others", OTHERS))
    }
    later = [item(inserts(OTHERS, 2, first=5), 3), item(inserts(OTHERS, 3, first=60), 5)]
    with pytest.raises(FrozenColumnsError):
        group.take(
            things=[item(old["things"], 1), item(ddl("ALTER TABLE things ADD c INT"), 4)],
            others=[item(old["others"], 2), *later],
        )
    assert group.ids() == {"things": [1], "others": [1, 2]}


def test_changes_before_a_violation_of_the_key_are_applied(tmp_path: Path) -> None:
    """So that the mirror has a table, and can be loaded again after the rows were corrected."""
    path, loose = tmp_path / "m", replace(SCHEMA, primary_key=())
    group = Group(
        path, Mirror(path, "shop", "others"), Mirror(path, "shop", "things", options=MirrorOptions(key=("id",)))
    )
    sql = "CREATE TABLE things (id INT, a VARCHAR(5), b DECIMAL(5,2), t DATETIME(3))"
    changes = [(ddl(sql, "create", pos=900), 2), (inserts(loose, 1, first=1), 3), (inserts(loose, 1, first=4), 6)]
    with pytest.raises(MirrorKeyError, match="id = 1 is that of two rows"):
        group.take(
            others=[item(inserts(OTHERS, n, first=n), n + 1) for n in (0, 5)],
            things=[item(*each) for each in changes],
        )
    assert group.ids() == {"others": [0], "things": []}
