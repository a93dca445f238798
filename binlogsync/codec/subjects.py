"""Names in NATS: streams, subjects, durables and buckets of a source. Pure; every name can be decoded.

The name of a source has lower-case letters, digits, _ and -, because it is part of names that NATS restricts. Databases
and tables may have any name: a token keeps ASCII letters, digits, _ and -, and every other byte of the UTF-8 name is
written as %XX, so that dots, blanks, * and > never reach NATS. A table's subject has four tokens, those of
checkpoints have three or five. Rows of a snapshot for one consumer have a subject of five tokens that begins with
another word, so that no filter for `cdc.<source>` matches it.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from binlogsync.errors import ConfigError, WireError
from binlogsync.sql_identifiers import MYSQL_QUOTED, unquote_mysql

_SOURCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_TOKEN = re.compile(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+\Z")
_TABLE = re.compile(rf"(?:({MYSQL_QUOTED})|([^.`][^.]*))\.(?:({MYSQL_QUOTED})|([^`].*))\Z", re.DOTALL)
_EMPTY = "%"
_SNAPSHOT = "cdc_snapshot"
_LONGEST_DURABLE = 200


def check_source(source: str) -> str:
    """Return the name if it is valid for a source; raises ConfigError."""
    if not _SOURCE.match(source):
        raise ConfigError(
            f"{source!r} cannot name a source: use lower-case letters, digits, _ and - (at most 64, "
            f"not starting with _ or -)"
        )
    return source


def parse_table(text: str) -> tuple[str, str]:
    """(database, table) of "database.table", where the table may hold further dots; either may stand in backquotes, as
    in MySQL: `` `my.db`.`t` ``. Raises ConfigError.
    """
    match = _TABLE.match(text)
    if match is None:
        raise ConfigError(
            f'{text!r} is not a table name; write "database.table", for instance "shop.orders", with backquotes around '
            "a database with a dot in its name"
        )
    database, bare_database, table, bare_table = match.groups()
    return (
        bare_database if database is None else unquote_mysql(database),
        bare_table if table is None else unquote_mysql(table),
    )


def escape(name: str) -> str:
    """The name as one token of a subject."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E") or _EMPTY


def unescape(token: str) -> str:
    """The name that escape() wrote; raises WireError for anything else."""
    if token == _EMPTY:
        return ""
    try:
        name = unquote_to_bytes(token).decode() if _TOKEN.match(token) else None
    except UnicodeDecodeError:
        name = None
    if name is None or escape(name) != token:
        raise WireError(f"{token!r} is not the name of a database or table as binlogsync writes it in a subject")
    return name


def stream_name(source: str) -> str:
    """The stream of a source's changes."""
    return f"CDC_{check_source(source).upper()}"


def all_subjects(source: str) -> str:
    """The subjects of all tables and checkpoints."""
    return f"cdc.{check_source(source)}.>"


def all_snapshot_subjects(source: str) -> str:
    """The subjects of the rows of snapshots that are for one consumer each."""
    return f"{_SNAPSHOT}.{check_source(source)}.>"


def stream_subjects(source: str) -> list[str]:
    """The subjects of the stream."""
    return [all_subjects(source), all_snapshot_subjects(source)]


@lru_cache(maxsize=4096)
def table_subject(source: str, database: str, table: str) -> str:
    """The subject of a table's changes."""
    return f"cdc.{check_source(source)}.{escape(database)}.{escape(table)}"


def table_subjects(source: str) -> str:
    """The subjects of all tables, without those of checkpoints."""
    return f"cdc.{check_source(source)}.*.*"


def snapshot_prefix(source: str, client_id: str) -> str:
    """The first tokens of the subjects of rows that are for this consumer alone."""
    return f"{_SNAPSHOT}.{check_source(source)}.{escape(client_id)}"


def parse_snapshot_prefix(prefix: str) -> tuple[str, str] | None:
    """(source, client id) in the text that snapshot_prefix() wrote; None for any other."""
    tokens = prefix.split(".")
    if len(tokens) != 3 or tokens[0] != _SNAPSHOT:
        return None
    try:
        return tokens[1], unescape(tokens[2])
    except WireError:
        return None


def snapshot_subject(prefix: str, database: str, table: str) -> str:
    """The subject of rows of a table for the consumer of the prefix."""
    return f"{prefix}.{escape(database)}.{escape(table)}"


def checkpoint_subject(source: str) -> str:
    """The subject of messages that move the checkpoint and carry no change."""
    return f"cdc.{check_source(source)}._checkpoint"


def writer_subject(source: str, writer: str) -> str:
    """The subject of the checkpoint messages that end the atomic batches of one writer (nats/publisher.py).

    Args:
        source: name of the source.
        writer: id of the writer, of letters and digits.
    """
    return f"{checkpoint_subject(source)}.writer.{writer}"


def parse_table_subject(subject: str) -> tuple[str, str, str] | None:
    """(source, database, table) of the subject of a table, or of its rows for one consumer; None for a subject of
    checkpoints. Raises WireError for any other.
    """
    tokens = subject.split(".")
    if (tokens[0], len(tokens)) in (("cdc", 4), (_SNAPSHOT, 5)):
        return tokens[1], unescape(tokens[-2]), unescape(tokens[-1])
    if tokens[0] == "cdc" and len(tokens) in (3, 5) and tokens[2] == "_checkpoint":
        return None
    raise WireError(f"{subject!r} is not a subject of binlogsync; another program publishes to this stream")


def parse_names(subject: str) -> tuple[str, str, str] | None:
    """(source, database, table) in a subject; None for any other than a table's subject."""
    try:
        return parse_table_subject(subject)
    except WireError:
        return None


def durable_name(client_id: str, database: str, table: str) -> str:
    """The durable consumer of one table of one client; names too long for NATS are cut and end in a hash."""
    name = "=".join((escape(client_id), escape(database), escape(table)))
    if len(name) <= _LONGEST_DURABLE:
        return name
    return f"{name[: _LONGEST_DURABLE - 33]}={hashlib.sha256(name.encode()).hexdigest()[:32]}"


def client_of_durable(name: str) -> str | None:
    """The client id in a name that durable_name() wrote; None for a name without "=".

    A client id that was itself cut is returned cut: compare durable_name() of the result with the name.
    """
    token, separator, _ = name.partition("=")
    try:
        return unescape(token) if separator else None
    except WireError:
        return None


def schema_bucket(source: str) -> str:
    """The key-value bucket of the source's table schemas by fingerprint, and the object store bucket of schemas that
    are too large for a message."""
    return f"{stream_name(source)}_schemas"


KEY_VALUE_KINDS = ("progress", "clients", "snapshots")
"""Kinds of the key-value buckets of a source: progress and leases of clients, and requests of snapshots."""


def key_value_bucket(source: str, kind: str) -> str:
    """The key-value bucket of that kind, one of KEY_VALUE_KINDS."""
    return f"{stream_name(source)}_{kind}"


CASE_KEY = "_lower_case_table_names"
"""Key in that bucket: the value of that variable on the server that the tail reads."""


def large_bucket(source: str) -> str:
    """The object store bucket of bodies that are too large for a message."""
    return f"{stream_name(source)}_large"
