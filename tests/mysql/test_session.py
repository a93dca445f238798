"""No global setting of the server changes what we read: each is given hostile values, in groups, on both servers.

`BINLOGSYNC_TEST_EACH_VARIABLE=1` tries every value of every variable alone, which takes minutes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from binlogsync import servers
from binlogsync.errors import SourceError
from binlogsync.mysql import MySQLConfig, connect, declaration_reader, inspect_server, preflight, resolve_start
from binlogsync.mysql.config import fetch
from binlogsync.mysql.information_schema import list_tables
from binlogsync.mysql.retention import clock_ahead_s
from binlogsync.mysql.session import VARIABLES
from binlogsync.servers.database import DatabaseServer
from binlogsync.snapshot.view import read_table
from binlogsync.start_notation import parse_start
from tests.mysql.hostile import HostileDatabase, HostileValue
from tests.mysql.hostile_tables import ROWS, create_tables
from tests.mysql.sources import run, source_of, transactions

EACH = bool(os.environ.get("BINLOGSYNC_TEST_EACH_VARIABLE"))
_GROUP = 150


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.server) for name in ("mysql", "mariadb")])
def source(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    start: Any = getattr(servers, request.param)
    with start() as server:
        create_tables(server)
        yield server


def look(config: MySQLConfig) -> dict[str, object]:
    """All that is read from the server and must not depend on its settings."""
    found: dict[str, object] = {}
    for table in ("keyed", "bare", "isam", "none"):
        with read_table(config, "held", table) as snapshot:
            rows = [change.after for batch in snapshot.batches() for change in batch.changes()]
            found[table] = (snapshot.schema, snapshot.left_out, replace(snapshot.at, ts_us=0), rows)
    info = inspect_server(config)
    begin = resolve_start(config, parse_start("oldest"))
    return {
        **found,
        "declared": declaration_reader(config)("held", "keyed"),
        "tables": sorted(list_tables(config)),
        "doctor": preflight(config),
        "server": info,
        "start": (begin, [(event.start, event.body) for event in transactions(config, begin)]),
        "clock": abs(clock_ahead_s(config)) < 60,
    }


def wrong(config: MySQLConfig, expected: dict[str, object]) -> str:
    """What is read otherwise, or the error; "" when all is right."""
    try:
        found = look(config)
    except SourceError as error:
        return str(error)
    return ", ".join(f"{key}: {found[key]!r:.300}" for key in expected if found[key] != expected[key])


def test_no_global_setting_changes_what_is_read(source: DatabaseServer) -> None:
    config = source_of(source)
    expected = look(config)
    assert isinstance(expected["keyed"], tuple)
    assert len(expected["keyed"][3]) == ROWS
    with closing(HostileDatabase(source)) as hostile:
        choices = hostile.choices()
        assert len(choices) > 100
        failures = {}
        for group in groups(choices):
            for culprit, found in culprits(hostile, group, config, expected):
                failures[culprit.name, culprit.value] = found
        assert not failures, "\n".join(f"{key}: {found}" for key, found in failures.items())
    assert not wrong(config, expected)


def groups(choices: dict[str, list[HostileValue]]) -> list[list[HostileValue]]:
    """Alone when asked for; else the first and the last values of many variables at a time."""
    if EACH:
        return [[each] for values in choices.values() for each in values]
    found = []
    for at in (0, -1):
        values = [each[at] for each in choices.values()]
        found += [values[begin : begin + _GROUP] for begin in range(0, len(values), _GROUP)]
    return found


def culprits(
    hostile: HostileDatabase, group: list[HostileValue], config: MySQLConfig, expected: dict[str, object]
) -> list[tuple[HostileValue, str]]:
    """Those of the group that change what is read, found by halves."""
    with hostile.set(group) as taken:
        found = wrong(config, expected) if taken else ""
    if not found or len(group) == 1:
        return [(group[0], found)] if found else []
    half = len(group) // 2
    return [each for part in (group[:half], group[half:]) for each in culprits(hostile, part, config, expected)] or [
        (HostileValue("only together", str(group), None), found)
    ]


def test_the_variables_of_every_session(source: DatabaseServer) -> None:
    """Also those whose effect takes longer to show than a test may last."""
    config = source_of(source)
    waits = ("wait_timeout", "net_write_timeout", "net_read_timeout", "lock_wait_timeout")
    optimizer = ("optimizer_switch", "optimizer_prune_level", "optimizer_search_depth")
    with closing(HostileDatabase(source)) as hostile:
        choices = hostile.choices()
        given = [choices[name][0] for name in (*waits, *optimizer, "time_zone")]
        with hostile.set(given), closing(connect(config)) as connection:
            [plan] = fetch(config, connection, f"SELECT {', '.join(f'@@{name} AS {name}' for name in optimizer)}")
            marks = ", ".join(["%s"] * len(VARIABLES))
            sql = f"SHOW SESSION VARIABLES WHERE Variable_name IN ({marks})"
            shown = {row["Variable_name"]: row["Value"] for row in fetch(config, connection, sql, tuple(VARIABLES))}
    assert "derived_merge=on" in plan["optimizer_switch"]
    prune_level = 2 if isinstance(source, servers.MariaDBServer) else 1  # the default of MariaDB since 10.10
    assert (plan["optimizer_prune_level"], plan["optimizer_search_depth"]) == (prune_level, 62)
    assert set(shown) >= {*waits, "time_zone"}
    assert shown == {name: VARIABLES[name] for name in shown}


def test_a_server_that_is_read_only(source: DatabaseServer) -> None:
    config = source_of(source)
    expected = look(config)
    names = ["read_only"] if isinstance(source, servers.MariaDBServer) else ["read_only", "super_read_only"]
    run(source, *(f"SET GLOBAL {name} = ON" for name in names))
    try:
        found = look(config)
    finally:
        run(source, *(f"SET GLOBAL {name} = OFF" for name in reversed(names)))
    assert {**found, "server": None} == {**expected, "server": None}


def test_the_error_names_a_variable_that_is_refused(source: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"sql_quote_show_create": "7", "time_zone": "+00:00"}
    monkeypatch.setattr("binlogsync.mysql.session.VARIABLES", wanted)
    with pytest.raises(SourceError, match="refuses SET SESSION sql_quote_show_create = 7"):
        connect(source_of(source))
