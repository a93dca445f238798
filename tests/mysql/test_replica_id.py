"""Readers of one server side by side: two checkouts do not disturb each other, one id twice is named."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from binlogsync.mysql import BinlogDump, resolve_start
from binlogsync.mysql.scan import packets
from binlogsync.mysql.server_errors import DumpEndedError, raise_server_error
from binlogsync.servers.database import DatabaseServer
from tests.mysql.sources import source_of

pytestmark = pytest.mark.server
KINDS = pytest.mark.parametrize("kind", ["mysql_server", "mariadb_server"])


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine delays several heartbeats; that many missing ones would be an error."""
    monkeypatch.setattr("binlogsync.mysql.dump.SILENCE_HEARTBEATS", 600)


def read(dump: BinlogDump, count: int) -> None:
    """Read this number of packets, heartbeats included; raises the error of the server."""
    for payload in islice(packets(dump), count):
        if payload[0] == 0xFF:
            raise_server_error(payload)


@KINDS
def test_readers_of_two_folders_are_served_together(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    config = source_of(server, heartbeat_s=0.2, source="side-by-side")
    with BinlogDump(config, resolve_start(config)) as first:
        read(first, 1)
        monkeypatch.chdir(tmp_path)
        with BinlogDump(config, resolve_start(config)) as second:
            for dump in (second, first, second, first):
                read(dump, 3)


@KINDS
def test_one_id_twice_is_named_with_the_next_step(kind: str, request: pytest.FixtureRequest) -> None:
    server: DatabaseServer = request.getfixturevalue(kind)
    config = source_of(server, heartbeat_s=0.2, source="twice")
    with BinlogDump(config, resolve_start(config)) as first:
        read(first, 1)
        with BinlogDump(config, resolve_start(config)) as second:
            read(second, 1)
            with pytest.raises(DumpEndedError, match="another reader with this server_id has connected") as caught:
                read(first, 1000)
    assert "set BINLOGSYNC_MYSQL_SERVER_ID to a number that no other reader has" in str(caught.value)
