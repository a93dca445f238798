"""No global setting of the server changes what `verify` and `doctor` report; each has hostile values, all at once.

Tail, mirror, `verify` and `doctor` connect while the values are set. tests/mysql/test_session.py reads the same tables
with the same values in small groups, and names the variable that a reader depends on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from binlogsync import servers
from binlogsync.cli.main import main
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.servers.database import DatabaseServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.comparison import Comparison
from binlogsync.targets.duckdb.store import DuckStore
from tests.e2e.tailing import TailThread, config_of, drain, options_of, stream_sink
from tests.mysql.hostile import HostileDatabase
from tests.mysql.hostile_tables import ROWS, SESSION, create_tables, row_values

pytestmark = pytest.mark.server
TABLES = ("keyed", "bare", "isam")


class HostileScenario:
    """A server with tables, their mirrors in one file, and a session that began before the settings changed."""

    def __init__(self, server: DatabaseServer, url: str, folder: Path) -> None:
        self.server, self.url, self.path = server, url, folder / "warehouse.duckdb"
        self.config = config_of(server, f"hostile-{server.port}")
        self.store = MemoryPositionStore()
        self.keyed = ROWS
        self.session = server.connect(database="held", autocommit=True)
        self.write(*SESSION)

    def write(self, *statements: str) -> None:
        with self.session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def insert(self) -> None:
        """One more row in each table."""
        self.keyed += 1
        self.write(
            f"INSERT INTO keyed VALUES {row_values(self.keyed, self.keyed)}",
            f"INSERT INTO bare VALUES ({self.keyed})",
            f"INSERT INTO isam VALUES ({self.keyed})",
        )

    def tail(self) -> TailThread:
        options = options_of(self.config.source, "held")
        return TailThread(self.config, [stream_sink(self.url)], self.store, options)

    def catch_up(self, tail: TailThread) -> None:
        """Store all changes, and apply them to the mirrors."""
        tail.wait_begun()
        tail.catch_up()
        for table in TABLES:
            with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
                target = Mirror(self.path, "held", table, self.config)
                drain(reader, ("held", table), target, ConsumeOptions(idle_s=0.2, gather_s=0.1))

    def compare(self, table: str) -> Comparison:
        with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
            file = DuckStore(self.path, error=ConsumeError)
            found = Verifier(reader, self.config, file, VerifyOptions(timeout_s=240.0)).verify("held", table)
        assert found.rows is not None, str(found)
        return found.rows

    def change_mirrors(self) -> None:
        """A lost row, a changed one, and one too many."""
        with DuckStore(self.path).transaction() as connection:
            connection.execute("USE held")
            connection.execute("DELETE FROM keyed WHERE id = 7")
            connection.execute('UPDATE keyed SET "at" = "at" + INTERVAL 1 MICROSECOND WHERE id = 8')
            connection.execute("INSERT INTO bare VALUES (2)")
            connection.execute("DELETE FROM isam WHERE id = (SELECT max(id) FROM isam)")


def differences(found: Comparison) -> tuple[int, int, int]:
    """(missing, different, extra)."""
    chunks = found.differing
    return sum(c.missing for c in chunks), sum(c.different for c in chunks), sum(c.extra for c in chunks)


@pytest.fixture(params=["mysql", "mariadb"])
def scenario(
    request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HostileScenario]:
    start: Any = getattr(servers, request.param)
    with start() as server:
        create_tables(server)
        scenario = HostileScenario(server, nats_server.url, tmp_path)
        given = {
            "SOURCE": scenario.config.source,
            "MYSQL_HOST": server.host,
            "MYSQL_PORT": str(server.port),
            "MYSQL_USER": server.cdc_user,
            "MYSQL_PASSWORD": server.cdc_password,
            "NATS_URL": nats_server.url,
            "WAREHOUSE_PATH": str(scenario.path),
            "INCLUDE": "held.*",
        }
        for name, value in given.items():
            monkeypatch.setenv(f"BINLOGSYNC_{name}", value)
        monkeypatch.chdir(tmp_path)
        with closing(scenario.session):
            yield scenario


@pytest.mark.exhaustive
def test_verify_and_doctor_do_not_depend_on_settings_of_the_server(
    scenario: HostileScenario, capsys: pytest.CaptureFixture[str]
) -> None:
    with scenario.tail() as tail:
        scenario.catch_up(tail)
    expected = doctor(capsys)
    assert len(expected) > 20
    with closing(HostileDatabase(scenario.server)) as hostile:
        choices = hostile.choices()
        for at in (0, -1):
            values = [each[at] for each in choices.values()]  # the most restrictive, and the opposite
            with hostile.set(values) as taken, scenario.tail() as tail:
                assert len(taken) > 100
                scenario.insert()
                scenario.catch_up(tail)
                counted = [scenario.compare(table) for table in TABLES]
                assert [(found.there, found.here) for found in counted] == [
                    (scenario.keyed, scenario.keyed),
                    (8 + scenario.keyed - ROWS, 8 + scenario.keyed - ROWS),
                    (scenario.keyed, scenario.keyed),
                ]
                assert all(found.is_equal for found in counted), list(map(str, counted))
                assert doctor(capsys) == expected
        scenario.change_mirrors()
        with hostile.set(values), scenario.tail():
            found = [differences(scenario.compare(table)) for table in TABLES]
            assert found == [(1, 1, 0), (0, 0, 1), (1, 0, 0)]
            assert main(["verify", "--client-id", "binlogsync", "--timeout", "240", "held.keyed"]) == 1
            assert "1 missing, 0 too many, 1 different" in capsys.readouterr().out


def doctor(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Status and name of each check, sorted."""
    capsys.readouterr()
    main(["doctor"])
    lines = [line.partition(": ")[0].split() for line in capsys.readouterr().out.splitlines()]
    return sorted(" ".join(words) for words in lines)
