"""Names are encoded for NATS and decoded without loss, with all characters that MySQL allows."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from binlogsync.codec import subjects
from binlogsync.errors import ConfigError, WireError

NAMES = st.text(st.characters(codec="utf-8"), max_size=64)
SAFE = re.compile(r"[A-Za-z0-9_%-]+\Z")


@given(NAMES)
def test_a_token_reads_back_and_is_safe(name: str) -> None:
    token = subjects.escape(name)
    assert SAFE.match(token)
    assert subjects.unescape(token) == name


@given(NAMES, NAMES)
def test_a_subject_reads_back(database: str, table: str) -> None:
    subject = subjects.table_subject("main", database, table)
    assert subject.count(".") == 3
    assert subjects.parse_table_subject(subject) == ("main", database, table)


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_different_tables_have_different_durables(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assume(one != other)
    assert subjects.durable_name(*one) != subjects.durable_name(*other)
    assert len(subjects.durable_name(*one)) <= 200


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("orders", "orders"),
        ("Orders", "Orders"),
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        (">", "%3E"),
        (" ", "%20"),
        ("", "%"),
        ("%", "%25"),
        ("é", "%C3%A9"),
        ("_checkpoint", "_checkpoint"),
    ],
)
def test_written_form(name: str, token: str) -> None:
    assert subjects.escape(name) == token


@given(NAMES, NAMES, NAMES)
def test_a_subject_of_rows_for_one_client_reads_back(client_id: str, database: str, table: str) -> None:
    prefix = subjects.snapshot_prefix("main", client_id)
    subject = subjects.snapshot_subject(prefix, database, table)
    assert subjects.parse_snapshot_prefix(prefix) == ("main", client_id)
    assert subjects.parse_table_subject(subject) == ("main", database, table)
    assert not subject.startswith(subjects.all_subjects("main")[:-1])
    assert subject.startswith(subjects.all_snapshot_subjects("main")[:-1])


@pytest.mark.parametrize("prefix", ["", "cdc_snapshot.main", "cdc.main.one", "cdc_snapshot.main.%2a", "other.main.a"])
def test_other_prefixes_are_not_read(prefix: str) -> None:
    assert subjects.parse_snapshot_prefix(prefix) is None


@given(NAMES, NAMES, NAMES)
def test_the_client_id_of_a_durable_reads_back(client_id: str, database: str, table: str) -> None:
    assume(len(subjects.escape(client_id)) < 160)
    assert subjects.client_of_durable(subjects.durable_name(client_id, database, table)) == client_id


def test_the_checkpoint_subject_is_no_table() -> None:
    assert subjects.parse_table_subject(subjects.checkpoint_subject("main")) is None
    assert subjects.parse_table_subject(subjects.table_subject("main", "_checkpoint", "x")) == (
        "main",
        "_checkpoint",
        "x",
    )


@pytest.mark.parametrize(
    "subject", ["orders", "cdc.main", "cdc.main.a.b.c", "cdc.main.x", "cdc.main.%2a.b", "cdc.main.%FF.b"]
)
def test_foreign_subjects_are_refused(subject: str) -> None:
    with pytest.raises(WireError):
        subjects.parse_table_subject(subject)


@pytest.mark.parametrize("source", ["", "Main", "a.b", "_a", "a b", "a\n", "x" * 65])
def test_bad_source_names_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a source"):
        subjects.stream_name(source)


def test_names_of_a_source() -> None:
    assert subjects.stream_name("main-db") == "CDC_MAIN-DB"
    assert subjects.schema_bucket("main-db") == "CDC_MAIN-DB_schemas"
    assert subjects.large_bucket("main-db") == "CDC_MAIN-DB_large"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop.orders", ("shop", "orders")),
        ("shop.a.b", ("shop", "a.b")),
        ("`my.db`.t", ("my.db", "t")),
        ("`a``b`.`c``.d`", ("a`b", "c`.d")),
        ("a`b.c`d", ("a`b", "c`d")),
        ("shop.x\ny", ("shop", "x\ny")),
    ],
)
def test_a_table_is_named_with_backquotes_where_it_needs_them(text: str, name: tuple[str, str]) -> None:
    assert subjects.parse_table(text) == name


@pytest.mark.parametrize("text", ["`shop.orders", "`shop`orders", "shop.`orders", "``.t", "shop.``", "`a`b`.t", "."])
def test_backquotes_that_do_not_match_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="backquotes"):
        subjects.parse_table(text)
