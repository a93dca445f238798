"""Zero and impossible dates in a primary key: each key stays one key, in mirrors from the stream and from a reread."""

from __future__ import annotations

import threading
from itertools import product
from pathlib import Path

import pytest

from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_state import MirrorOptions
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink

DATES = ["0000-00-00", "2024-00-00", "2024-02-00", "0000-05-00", "2024-02-01"]
TIMES = ["0000-00-00 00:00:00", "2024-00-07 12:34:56.789", "2024-02-01 00:00:00"]
SHOWN = (
    "SELECT (CASE WHEN d < '1000-01-01 (BC)' THEN (d - DATE '20000-01-01 (BC)')::VARCHAR ELSE d::VARCHAR END), "
    "(CASE WHEN t < '1000-01-01 (BC)' THEN (t::DATE - DATE '20000-01-01 (BC)') || ' ' || t::TIME ELSE t::VARCHAR END), "
    "v FROM {} ORDER BY v"
)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "follows.duckdb", tmp_path / "read.duckdb"


def number_of(text: str) -> str:
    """A date, or its number of days after the first one in the mirror."""
    year, month, day = map(int, text[:10].split("-"))
    return text[:10] if year and month and day else str((year * 16 + month) * 32 + day)


@pytest.mark.parametrize(("server", "form"), [("mysql", "json"), ("mariadb", "arrow")])
def test_each_key_stays_one_key(
    request: pytest.FixtureRequest, nats_server: NATSServer, paths: tuple[Path, Path], server: str, form: str
) -> None:
    database: FreshDatabase = request.getfixturevalue(server)
    database.execute("SET sql_mode = ''")
    name = database.name
    config = config_of(database.server, f"dates-{name}")
    options = options_of(config.source, name, start="now")
    sink = stream_sink(nats_server.url, format=form)

    def drain(path: Path, keeps: MirrorOptions) -> None:
        with StreamReader(NatsOptions(url=nats_server.url), config.source) as reader:
            for table in ("t", "z"):
                target = Mirror(path, name, table, config, keeps)
                how = ConsumeOptions(client_id=path.stem, idle_s=0.5, gather_s=0.1)
                consume(reader, (name, table), target, how, threading.Event())

    def mirrored(path: Path, table: str = "t") -> list[tuple[object, ...]]:
        return query(path, SHOWN.format(f"{name}.{table}"))

    with TailThread(config, [sink], MemoryPositionStore(), options) as tail:
        tail.wait_begun()
        database.execute("CREATE TABLE t (d DATE, t DATETIME(3), v INT, PRIMARY KEY (d, t))")
        database.execute("CREATE TABLE z (d TIMESTAMP, t DATETIME(3), v INT, PRIMARY KEY (d))")
        database.execute("INSERT INTO z VALUES (0, 0, 1), ('2024-01-01 00:00:00', 0, 2)")
        keys = list(product(DATES, TIMES))
        for number, key in enumerate(keys):
            database.execute("INSERT INTO t VALUES (%s, %s, %s)", (*key, number))
        tail.catch_up()
        drain(paths[0], MirrorOptions(history=True))
        database.execute("UPDATE t SET v = v + 100 WHERE d = '0000-00-00'")
        database.execute("UPDATE t SET d = '2023-00-00' WHERE d = '2024-02-00'")
        database.execute("DELETE FROM t WHERE t = '2024-00-07 12:34:56.789' AND d <> '0000-00-00'")
        database.execute("UPDATE z SET v = v + 100")
        tail.catch_up()
        for path in paths:
            drain(path, MirrorOptions(history=path == paths[0]))
        wanted = []
        for d, t, v in database.execute("SELECT CAST(d AS CHAR), CAST(t AS CHAR), v FROM t ORDER BY v"):
            time = t[11:].rstrip("0").rstrip(".") if int(t[20:]) == 0 else t[11:]
            wanted.append((number_of(d), f"{number_of(t)} {time}", v))
        assert len(wanted) == 11
        assert mirrored(paths[0]) == mirrored(paths[1]) == wanted
        counts = f"SELECT count(*), count(DISTINCT (d, t)) FROM {name}.t__history WHERE valid_to IS NULL"
        assert query(paths[0], counts) == [(11, 11)]
        zero = query(paths[0], f"SELECT d < '1000-01-01 (BC)', t, v FROM {name}.z ORDER BY v")
        assert zero == [(True, None, 101), (False, None, 102)]
        for path in paths:
            file = DuckStore(path, error=ConsumeError)
            with StreamReader(NatsOptions(url=nats_server.url), config.source) as reader:
                verifier = Verifier(reader, config, file, VerifyOptions(client_id=path.stem))
                found = verifier.verify(name, "t")
            assert found.is_equal, str(found)
        database.execute("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (v)")
        database.execute("UPDATE t SET v = v + 1000 WHERE d = '0000-00-00'")
        tail.catch_up()
        drain(paths[0], MirrorOptions(history=True))
        counts = f"SELECT count(*), count(d), count(t), max(v) > 1000 FROM {name}.t"
        assert query(paths[0], counts) == [(11, 2, 5, True)]
