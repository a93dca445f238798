"""Positions and configurations of other tools: how they are read and imported, and which are refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from binlogsync.cli.main import main
from binlogsync.errors import ConfigError, PositionError
from binlogsync.migrate.bookmark_import import describe, import_bookmark
from binlogsync.migrate.config import read_config, to_dotenv
from binlogsync.migrate.positions import ForeignPosition, read_position
from binlogsync.mysql import inspect_server, resolve_start
from binlogsync.position import BinlogPosition, GtidSet
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.tail.start import find_tail_start
from tests.databases import FreshDatabase
from tests.e2e.tailing import config_of, options_of

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
AT = BinlogPosition("mysql-bin.000003", 1234)
GTIDS = GtidSet.parse(f"{UUID}:1-5")

MAXWELL = {
    "server_id": 7, "binlog_file": "mysql-bin.000003", "binlog_position": 1234, "gtid_set": None,
    "client_id": "maxwell", "heartbeat_at": None, "last_heartbeat_read": 1_700_000_000_000,
}  # fmt: skip
DEBEZIUM = {
    "transaction_id": None, "ts_sec": 1_700_000_000, "file": "mysql-bin.000003", "pos": 1234,
    "gtids": f"{UUID}:1-5", "row": 1, "server_id": 7, "event": 2,
}  # fmt: skip
DEBEZIUM_POSITION = ForeignPosition("debezium", AT, GTIDS, 7, 1_700_000_000_000_000, 3)
KEY = '["shop",{"server":"shop"}]'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"Name":"mysql-bin.000003","Pos":1234}', ForeignPosition("go", AT)),
        ('{"file": "mysql-bin.000003", "position": "1234"}', ForeignPosition("go", AT)),
        ("mysql-bin.000003:1234\n", ForeignPosition("go", AT)),
        (json.dumps(json.dumps({"Name": "mysql-bin.000003", "Pos": 1234})), ForeignPosition("go", AT)),
        (json.dumps(MAXWELL), ForeignPosition("maxwell", AT, None, 7, 1_700_000_000_000_000, reader="maxwell")),
        (
            json.dumps([{**MAXWELL, "gtid_set": f"{UUID}:1-5"}]),
            ForeignPosition("maxwell", AT, GTIDS, 7, 1_700_000_000_000_000, reader="maxwell"),
        ),
        (
            json.dumps({"database": "shop", "position": "mysql-bin.000003:1234", "gtid": None}),
            ForeignPosition("maxwell", AT),
        ),
        (json.dumps(DEBEZIUM), DEBEZIUM_POSITION),
        (f"{KEY}\t{json.dumps({**DEBEZIUM, 'pos': 4})}\n{KEY}\t{json.dumps(DEBEZIUM)}\n", DEBEZIUM_POSITION),
        (json.dumps({"offsets": [{"partition": {"server": "shop"}, "offset": DEBEZIUM}]}), DEBEZIUM_POSITION),
    ],
)  # fmt: skip
def test_positions_of_other_tools(text: str, expected: ForeignPosition) -> None:
    found = read_position(text)
    assert (found.tool, found.position, found.gtids, found.server_id, found.at_us, found.done_inside) == (
        expected.tool, expected.position, expected.gtids, expected.server_id, expected.at_us, expected.done_inside,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no position found"),
        ("somewhere", "is not a position"),
        ("[1]", "is not a position"),
        ('{"Name": "mysql-bin.000003"}', "file and position are missing"),
        (json.dumps({**DEBEZIUM, "snapshot": True}), "a snapshot that has not finished"),
        (json.dumps([MAXWELL, {**MAXWELL, "client_id": "other"}]), "of several readers .maxwell, other."),
    ],
)
def test_texts_without_a_position(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_position(text)


@pytest.mark.server
def test_a_tail_resumes_at_the_position_of_another_tool(mysql: FreshDatabase) -> None:
    config, store = config_of(mysql.server, "main"), MemoryPositionStore()
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    position, info = resolve_start(config), inspect_server(config)
    mysql.execute("INSERT INTO t VALUES (1)")
    coordinates = {"file": position.position.file, "pos": position.position.pos}
    by_gtid = {**DEBEZIUM, **coordinates, "gtids": str(position.gtids)}
    bookmark, foreign = import_bookmark(config, store, "main", json.dumps(by_gtid), "old")
    assert (bookmark.checkpoint, bookmark.reason, bookmark.pinned) == (position, "import", True)
    message = describe(bookmark, foreign)
    assert "has processed 3 events of the transaction that starts there: all of its changes" in message
    assert "BINLOGSYNC_START=bookmark:old" in message
    by_file = {"Name": coordinates["file"], "Pos": coordinates["pos"]}
    assert import_bookmark(config, store, "main", json.dumps(by_file))[0].checkpoint == position
    start = options_of("main", mysql.name, start="bookmark:old").start
    assert find_tail_start(config, info, [], store, "main", start).start == position
    with pytest.raises(ConfigError, match="'new' is not a bookmark of source main; names are 'go', 'old'"):
        find_tail_start(config, info, [], store, "main", "bookmark:new")


@pytest.mark.server
def test_a_position_that_this_server_does_not_have_is_refused(mysql: FreshDatabase) -> None:
    config, store = config_of(mysql.server, "main"), MemoryPositionStore()
    here = resolve_start(config)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with pytest.raises(PositionError, match="without GTIDs it is not valid here"):
        import_bookmark(config, store, "main", json.dumps({**MAXWELL, "server_id": 4_000_000_000}))
    events = mysql.execute(f"SHOW BINLOG EVENTS IN '{here.position.file}' FROM {here.position.pos} LIMIT 5")
    inside = next(row[1] for row in events if row[2] == "Query")
    with pytest.raises(PositionError, match="lies inside the transaction that begins at"):
        import_bookmark(config, store, "main", json.dumps({"Name": here.position.file, "Pos": inside}))
    assert store.bookmarks.load("main") == []


CONFIG = {
    "Version": "1.0",
    "Redis": {"Host": "10.0.0.1", "Port": 6380, "Password": "red's secret"},
    "Bolt": {"File": "/var/lib/tool/data.db", "Bucket": "positions"},
    "Storage": {"DaoName": "redis", "PosKey": "binlog_pos"},
    "Mysql": {"Host": "10.0.0.2", "Port": 3307, "Username": "reader", "Password": "my # secret"},
    "MQName": "stan",
    "Stan": {"Host": "10.0.0.3", "Port": 4223, "ClusterID": "test-cluster", "ClientID": "producer"},
    "Extra": True,
}


def test_each_key_of_a_configuration_is_mapped_or_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(CONFIG))
    assert main(["config", "import", "config.json"]) == 0
    assert dotenv_values(".env") == {
        "BINLOGSYNC_REDIS_HOST": "10.0.0.1",
        "BINLOGSYNC_REDIS_PORT": "6380",
        "BINLOGSYNC_REDIS_PASSWORD": "red's secret",
        "BINLOGSYNC_POSITIONS_PATH": "/var/lib/tool/positions.db",
        "BINLOGSYNC_POSITIONS": "redis",
        "BINLOGSYNC_MYSQL_HOST": "10.0.0.2",
        "BINLOGSYNC_MYSQL_PORT": "3307",
        "BINLOGSYNC_MYSQL_USER": "reader",
        "BINLOGSYNC_MYSQL_PASSWORD": "my # secret",
        "BINLOGSYNC_NATS_URL": "nats://10.0.0.3:4223",
    }
    assert stat.S_IMODE(os.stat(".env").st_mode) == 0o600
    output = capsys.readouterr()
    assert "secret" not in output.out + output.err
    keys = [line.split(" ")[0].rstrip(":") for line in output.err.splitlines()[:-1]]
    assert keys == [
        f"{a}.{b}" if isinstance(v, dict) else a for a, v in CONFIG.items() for b in (v if isinstance(v, dict) else "x")
    ]
    assert "redis-cli --raw get binlog_pos | binlogsync bookmarks import -" in output.err
    assert "Extra: not mapped: there is no corresponding setting" in output.err
    assert main(["config", "import", "config.json"]) == 1
    assert ".env already exists" in capsys.readouterr().err


def test_bolt_is_mapped_to_sqlite() -> None:
    keys = read_config(json.dumps({**CONFIG, "Storage": {"DaoName": "bolt", "PosKey": ""}}))
    assert "BINLOGSYNC_POSITIONS=sqlite\n" in to_dotenv(keys)
    with pytest.raises(ConfigError, match="no section Mysql"):
        read_config("{}")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_config("Version: 1")
