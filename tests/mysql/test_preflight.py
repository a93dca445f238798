"""Each setting is changed to a bad value, reported, fixed with the SQL of the finding, and reported as fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from binlogsync import servers
from binlogsync.errors import PreflightError, SourceError
from binlogsync.mysql import BinlogDump, Finding, MySQLConfig, check, inspect_server, preflight, resolve_start
from binlogsync.mysql.privileges import database_privileges, global_privileges, grants_for_tail
from binlogsync.servers.database import DatabaseServer
from binlogsync.snapshot.view import read_table
from binlogsync.start_notation import parse_start
from tests.mysql.sources import run, source_of, transactions

MYSQL_SETTINGS = [
    ("binlog_format", "'STATEMENT'"),
    ("binlog_format", "'MIXED'"),
    ("server_id", "0"),
]
MARIADB_SETTINGS = [
    ("binlog_format", "'STATEMENT'"),
]


def finding(name: str, config: MySQLConfig) -> Finding:
    return next(found for found in preflight(config) if found.name == name)


def failed(config: MySQLConfig) -> list[str]:
    return [found.name for found in preflight(config) if not found.ok and found.severity == "error"]


def spoil_and_mend(server: DatabaseServer, name: str, value: str) -> None:
    config = source_of(server)
    check(preflight(config))
    run(server, f"SET GLOBAL {name} = {value}")
    assert failed(config) == [name]
    with pytest.raises(PreflightError, match=name) as caught:
        check(preflight(config))
    fix = finding(name, config).fix_sql
    assert fix in str(caught.value)
    run(server, fix)
    check(preflight(config))


@pytest.mark.parametrize(("name", "value"), MYSQL_SETTINGS)
def test_mysql_settings(own_mysql: servers.MySQLServer, name: str, value: str) -> None:
    spoil_and_mend(own_mysql, name, value)


@pytest.mark.parametrize(("name", "value"), MARIADB_SETTINGS)
def test_mariadb_settings(own_mariadb: servers.MariaDBServer, name: str, value: str) -> None:
    spoil_and_mend(own_mariadb, name, value)


@pytest.mark.parametrize("value", ["MINIMAL", "NOBLOB"])
def test_partial_images_are_a_warning(own_mysql: servers.MySQLServer, value: str) -> None:
    config = source_of(own_mysql)
    run(own_mysql, f"SET GLOBAL binlog_row_image = '{value}'")
    found = finding("binlog_row_image", config)
    assert (found.ok, found.severity) == (False, "warning")
    check(preflight(config))
    run(own_mysql, found.fix_sql)
    assert finding("binlog_row_image", config).ok


@pytest.mark.parametrize(
    ("server", "value"), [("own_mysql", "MINIMAL"), ("own_mariadb", "MINIMAL"), ("own_mariadb", "NO_LOG")]
)
def test_column_names_that_are_not_logged_are_a_warning(
    server: str, value: str, request: pytest.FixtureRequest
) -> None:
    running: DatabaseServer = request.getfixturevalue(server)
    config = source_of(running)
    run(running, f"SET GLOBAL binlog_row_metadata = '{value}'")
    found = finding("binlog_row_metadata", config)
    assert (found.ok, found.severity) == (False, "warning")
    assert "information_schema" in found.message
    check(preflight(config))
    run(running, found.fix_sql)
    assert finding("binlog_row_metadata", config).ok


def test_without_names_in_the_log_the_tables_have_to_be_seen(
    own_mysql: servers.MySQLServer, stranger: MySQLConfig
) -> None:
    run(own_mysql, "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO stranger")
    assert failed(stranger) == []
    run(own_mysql, "SET GLOBAL binlog_row_metadata = 'MINIMAL'")
    try:
        assert failed(stranger) == ["grant SELECT"]
    finally:
        run(own_mysql, "SET GLOBAL binlog_row_metadata = 'FULL'")


@pytest.mark.parametrize(
    ("server", "name", "value"),
    [
        ("own_mysql", "binlog_transaction_compression", "ON"),
        ("own_mysql", "binlog_row_value_options", "'PARTIAL_JSON'"),
        ("own_mariadb", "log_bin_compress", "ON"),
    ],
)
def test_what_is_decoded_passes(server: str, name: str, value: str, request: pytest.FixtureRequest) -> None:
    running: DatabaseServer = request.getfixturevalue(server)
    run(running, f"SET GLOBAL {name} = {value}")
    try:
        check(preflight(source_of(running)))
    finally:
        run(running, f"SET GLOBAL {name} = DEFAULT")


def test_differences_of_values_that_are_not_logged_are_an_error(own_mysql: servers.MySQLServer) -> None:
    run(own_mysql, "SET GLOBAL binlog_row_image = 'NOBLOB'", "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'")
    config = source_of(own_mysql)
    try:
        assert failed(config) == []  # NOBLOB images hold JSON
        run(own_mysql, "SET GLOBAL binlog_row_image = 'MINIMAL'")
        assert failed(config) == ["binlog_row_value_options"]
        run(own_mysql, finding("binlog_row_value_options", config).fix_sql)
        assert failed(config) == []
    finally:
        run(own_mysql, "SET GLOBAL binlog_row_image = DEFAULT", "SET GLOBAL binlog_row_value_options = DEFAULT")


@pytest.mark.parametrize("server", ["own_mysql", "own_mariadb"])
def test_a_short_retention_is_a_warning(server: str, request: pytest.FixtureRequest) -> None:
    running: DatabaseServer = request.getfixturevalue(server)
    config = source_of(running)
    run(running, "SET GLOBAL binlog_expire_logs_seconds = 3600")
    found = finding("retention", config)
    assert (found.ok, found.severity) == (False, "warning")
    check(preflight(config))
    run(running, found.fix_sql)
    assert finding("retention", config).ok


@pytest.fixture
def stranger(own_mysql: servers.MySQLServer) -> Iterator[MySQLConfig]:
    """An account without privileges."""
    run(own_mysql, "CREATE USER stranger IDENTIFIED BY 'x'")
    yield source_of(own_mysql, user="stranger", password="x")
    run(own_mysql, "DROP USER stranger")


def test_missing_grants(own_mysql: servers.MySQLServer, stranger: MySQLConfig) -> None:
    assert failed(stranger) == ["grant REPLICATION SLAVE", "grant REPLICATION CLIENT"]
    fixes = [found.fix_sql for found in preflight(stranger) if not found.ok]
    assert "GRANT SELECT ON *.* TO 'stranger'@'%';" in fixes
    assert "GRANT LOCK TABLES ON *.* TO 'stranger'@'%';" in fixes
    run(own_mysql, *[fix for fix in fixes if fix])
    assert [found.name for found in preflight(stranger) if not found.ok] == []


def test_what_mirrors_need_is_a_warning(own_mysql: servers.MySQLServer, stranger: MySQLConfig) -> None:
    run(own_mysql, "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO stranger")
    run(own_mysql, "CREATE DATABASE IF NOT EXISTS gr", "CREATE TABLE IF NOT EXISTS gr.t (id INT PRIMARY KEY)")
    found = finding("grant LOCK TABLES", stranger)
    assert (found.ok, found.severity) == (False, "warning")
    assert "mirrors" in found.message
    check(preflight(stranger))
    with read_table(stranger, "gr", "t") as snapshot:
        assert snapshot.schema is not None, "an InnoDB table of a server with GTIDs needs no lock"
    run(own_mysql, "CREATE TABLE IF NOT EXISTS gr.locked (id INT PRIMARY KEY) ENGINE=MyISAM")
    with pytest.raises(SourceError, match="GRANT SELECT, LOCK TABLES"), read_table(stranger, "gr", "locked"):
        pass
    run(own_mysql, "GRANT LOCK TABLES ON gr.* TO stranger")
    found = finding("grant LOCK TABLES", stranger)
    assert found.ok
    assert "on `gr` only" in found.message
    with read_table(stranger, "gr", "locked") as snapshot:
        assert snapshot.schema is not None
    run(own_mysql, "REVOKE LOCK TABLES ON gr.* FROM stranger", "GRANT LOCK TABLES ON *.* TO stranger")
    assert finding("grant LOCK TABLES", stranger).message == "'stranger'@'%' has LOCK TABLES"


def test_grants_of_a_role_count(own_mysql: servers.MySQLServer, stranger: MySQLConfig) -> None:
    run(
        own_mysql,
        "CREATE ROLE capture",
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO capture",
        "GRANT capture TO stranger",
        "SET DEFAULT ROLE capture TO stranger",
    )
    try:
        assert failed(stranger) == []
    finally:
        run(own_mysql, "DROP ROLE capture")


def test_missing_grants_of_mariadb(own_mariadb: servers.MariaDBServer) -> None:
    run(own_mariadb, "CREATE USER stranger IDENTIFIED BY 'x'")
    config = source_of(own_mariadb, user="stranger", password="x")
    try:
        assert failed(config) == ["grant REPLICATION SLAVE", "grant BINLOG MONITOR"]
        run(own_mariadb, *[found.fix_sql for found in preflight(config) if found.fix_sql])
        assert [found.name for found in preflight(config) if not found.ok] == []
    finally:
        run(own_mariadb, "DROP USER stranger")


def test_the_servers_own_id_is_refused(own_mysql: servers.MySQLServer) -> None:
    own = inspect_server(source_of(own_mysql)).server_id
    assert failed(source_of(own_mysql, server_id=own)) == ["replica server_id"]


def test_an_id_that_another_source_uses_is_refused_and_ones_own_is_not(own_mysql: servers.MySQLServer) -> None:
    config = source_of(own_mysql, server_id=4711, source="first")
    with BinlogDump(config, resolve_start(config, "now")):
        assert failed(config) == []
        assert failed(source_of(own_mysql, server_id=4711, source="second")) == ["replica server_id"]


def test_gtids_are_advice(plain_mysql: servers.MySQLServer) -> None:
    config = source_of(plain_mysql)
    found = finding("gtids", config)
    assert (found.ok, found.severity) == (False, "warning")
    check(preflight(config))


@pytest.mark.server
def test_no_binlog() -> None:
    with servers.mysql(options={"skip_log_bin": "", "gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}) as server:
        found = finding("log_bin", source_of(server))
        assert not found.ok
        assert "my.cnf" in found.message


def test_privileges_on_a_database() -> None:
    lines = [
        "GRANT SELECT, LOCK TABLES ON `shop`.* TO `a`@`%`",
        "GRANT ALL PRIVILEGES ON `a``b_%`.* TO `a`@`%`",
        "GRANT LOCK TABLES ON *.* TO `a`@`%`",
        "GRANT SELECT ON `bar`.`t` TO `a`@`%`",
    ]
    assert database_privileges(lines, "SELECT") == ["`shop`", "`a``b_%`"]
    assert database_privileges(lines, "INSERT") == ["`a``b_%`"]


def test_privileges_on_everything_only() -> None:
    lines = [
        "GRANT SELECT, REPLICATION SLAVE ON *.* TO `a`@`%`",
        "GRANT INSERT ON `shop`.* TO `a`@`%`",
        "GRANT `role`@`%` TO `a`@`%`",
        "GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION",
    ]
    assert global_privileges(lines) == {"SELECT", "REPLICATION SLAVE", "ALL PRIVILEGES"}


@pytest.mark.parametrize("server", ["own_mysql", "own_mariadb"])
def test_a_prepared_xa_transaction_is_a_warning(server: str, request: pytest.FixtureRequest) -> None:
    running: DatabaseServer = request.getfixturevalue(server)
    config = source_of(running, user="root", password=running.password)
    assert finding("prepared XA", config).ok
    create = ("CREATE DATABASE IF NOT EXISTS xa", "CREATE TABLE xa.t (id INT PRIMARY KEY)")
    run(running, *create, "XA START 'x'", "INSERT INTO xa.t VALUES (1)", "XA END 'x'", "XA PREPARE 'x'")
    try:
        found = finding("prepared XA", config)
        assert (found.ok, found.severity) == (False, "warning")
        assert "1 XA" in found.message
    finally:
        run(running, "XA ROLLBACK 'x'", "DROP DATABASE xa")
    assert finding("prepared XA", config).ok


RIGHTS = ("SELECT", "LOCK TABLES", "REPLICATION SLAVE", "REPLICATION CLIENT")


@pytest.mark.parametrize("missing", RIGHTS)
def test_each_question_names_the_right_that_is_missing(
    own_mysql: servers.MySQLServer, stranger: MySQLConfig, missing: str
) -> None:
    # A table of this engine cannot be read without a lock.
    table = "CREATE TABLE IF NOT EXISTS gr.locked (id INT PRIMARY KEY) ENGINE=MyISAM"
    run(own_mysql, "CREATE DATABASE IF NOT EXISTS gr", table)
    run(own_mysql, f"GRANT {', '.join(each for each in RIGHTS if each != missing)} ON *.* TO stranger")
    assert f"grant {missing}" in [found.name for found in preflight(stranger) if not found.ok]
    wanted = [f"GRANT {missing} ON *.* TO 'stranger'@'%';"] if missing.startswith("REPLICATION") else []
    assert grants_for_tail(stranger) == wanted
    questions: list[Callable[[], object]] = [
        lambda: columns_read(stranger, "locked"),
        lambda: transactions(stranger, resolve_start(stranger, parse_start("now"))),
    ]
    refused = []
    for question in questions:
        try:
            question()
        except SourceError as error:
            refused.append(str(error))
    assert refused
    assert all(missing in text for text in refused)


def columns_read(config: MySQLConfig, table: str = "t") -> list[str]:
    """Names of the columns of gr.<table> that a snapshot has."""
    with read_table(config, "gr", table) as snapshot:
        assert snapshot.schema is not None
        list(snapshot.batches())
        return [column.name for column in snapshot.schema.columns]


@pytest.mark.parametrize("server", ["own_mysql", "own_mariadb"])
def test_a_right_to_some_columns_is_not_enough(server: str, request: pytest.FixtureRequest) -> None:
    """information_schema shows only those columns: the snapshot would miss the others without an error."""
    running: DatabaseServer = request.getfixturevalue(server)
    monitor = "REPLICATION CLIENT" if server == "own_mysql" else "BINLOG MONITOR"
    run(
        running,
        "CREATE DATABASE IF NOT EXISTS gr",
        "CREATE TABLE gr.some (id INT PRIMARY KEY, secret INT)",
        "CREATE USER narrow IDENTIFIED BY 'x'",
        f"GRANT LOCK TABLES, {monitor} ON *.* TO narrow",
        "GRANT SELECT (id) ON gr.some TO narrow",
    )
    config = source_of(running, user="narrow", password="x")
    try:
        with pytest.raises(SourceError, match="GRANT SELECT, LOCK TABLES"), read_table(config, "gr", "some"):
            pass
    finally:
        run(running, "DROP USER narrow", "DROP TABLE gr.some")


def test_a_partial_revoke_is_named(own_mysql: servers.MySQLServer, stranger: MySQLConfig) -> None:
    run(
        own_mysql,
        "CREATE DATABASE IF NOT EXISTS gr",
        "SET GLOBAL partial_revokes = ON",
        f"GRANT {', '.join(RIGHTS)} ON *.* TO stranger",
        "REVOKE SELECT ON gr.* FROM stranger",
    )
    try:
        found = finding("grant SELECT", stranger)
        assert found.ok
        assert "except on `gr`: there snapshots and checks of mirrors cannot read the tables" in found.message
    finally:
        run(own_mysql, "GRANT SELECT ON gr.* TO stranger", "SET GLOBAL partial_revokes = OFF")


@pytest.mark.parametrize("mode", ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"])
def test_gtids_are_turned_on_from_where_they_are(plain_mysql: servers.MySQLServer, mode: str) -> None:
    modes = ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"]
    steps = [f"SET GLOBAL gtid_mode = {each}" for each in modes[1 : modes.index(mode) + 1]]
    config = source_of(plain_mysql)
    run(plain_mysql, "SET GLOBAL enforce_gtid_consistency = ON", *steps)
    try:
        found = finding("gtids", config)
        assert found.ok == (mode == "ON")
        if not found.ok:
            assert f"gtid_mode is {mode}" in found.message
            run(plain_mysql, *[each for each in found.fix_sql.split("; ") if each])
            assert finding("gtids", config).ok
    finally:
        run(plain_mysql, *[f"SET GLOBAL gtid_mode = {each}" for each in reversed(modes[:-1])], "RESET PERSIST")
        # The server does not send what was logged with GTIDs once they are off: its log begins again.
        run(plain_mysql, "SET GLOBAL enforce_gtid_consistency = OFF", "RESET BINARY LOGS AND GTIDS")
