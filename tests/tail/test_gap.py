"""Which accepted gaps request a snapshot."""

from __future__ import annotations

import pytest

from binlogsync.filters import TableFilter
from binlogsync.mysql import inspect_server
from binlogsync.position import Checkpoint
from binlogsync.tail import gap
from binlogsync.tail.start import TailStart
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of
from tests.tail.test_fanout import ListSink


class StreamSink(ListSink):
    @property
    def takes_snapshots(self) -> bool:
        return True


@pytest.mark.server
def test_a_gap_of_a_sink_without_snapshots_requests_none(mysql: FreshDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(mysql.server, "gap")
    info = inspect_server(config)
    at = Checkpoint(info.end(), info.server_uuid, info.executed)
    monkeypatch.setattr(gap, "_missing", lambda *_: "binlog.000001 is purged")

    def accept(sink: ListSink) -> int:
        found: list[str] = []
        origin = TailStart(at, {sink: at}, ())
        terms = ("the disk was full", "now")
        gap.accept_gap(config, info, origin, TableFilter(()), terms, lambda _: None, lambda: found.append("request"))
        return len(found)

    assert accept(ListSink("audit log", at)) == 0
    assert accept(StreamSink("stream", at)) == 1
