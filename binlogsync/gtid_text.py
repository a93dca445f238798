"""Parses the text of GTID sets strictly: invalid text is an error with its position, and is never ignored.

MySQL: uuid:1-5:7, uuid:tag:1-3:other:9 (a tag holds for the intervals after it). MariaDB: 0-1-100, a domain and a
server id of 32 bits and a sequence number of 64. Members are separated by commas; white space around them is
ignored. MySQL itself is less strict: it ignores foo in uuid:foo:bar:1-2, and all of uuid:5-3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from binlogsync.errors import PositionError, excerpt

Interval = tuple[int, int]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_INTERVAL = re.compile(r"([0-9]+)(?:\s*-\s*([0-9]+))?")
_MARIADB = re.compile(r"([0-9]+)-([0-9]+)-([0-9]+)")
_MOST_MYSQL = 2**63 - 2
_MOST_MARIADB = (2**32 - 1, 2**32 - 1, 2**64 - 1)


def is_mariadb_text(text: str) -> bool:
    """True when every member has the form of MariaDB's."""
    return all(_MARIADB.fullmatch(member) for _, member in _pieces(text, ",", 0))


def parse_mysql_text(text: str) -> Iterator[tuple[str, Interval]]:
    """("uuid" or "uuid:tag", interval with both ends) of each interval; raises PositionError."""
    for at, member in _pieces(_without_last_comma(text).lower(), ",", 0):
        (uuid_at, uuid), *items = _pieces(member, ":", at)
        if not _UUID.fullmatch(uuid):
            raise _mysql_error(text, uuid_at, "a UUID is expected")
        if not items:
            raise _mysql_error(text, at + len(member), "an interval is expected, such as :7 or :1-5")
        yield from _parse_items(text, uuid, items)


def _without_last_comma(text: str) -> str:
    """MySQL breaks lines after a comma, so a copied part of its output may end with one."""
    rest = text.rstrip()
    return rest[:-1] if rest.endswith(",") and rest != "," else text


def _parse_items(text: str, uuid: str, items: list[tuple[int, str]]) -> Iterator[tuple[str, Interval]]:
    """The intervals of one UUID."""
    key, tag_at = uuid, -1
    for at, item in items:
        if _TAG.fullmatch(item):
            if tag_at >= 0:
                raise _mysql_error(text, tag_at, "a tag without an interval")
            key, tag_at = f"{uuid}:{item}", at
            continue
        found = _INTERVAL.fullmatch(item)
        if found is None:
            raise _mysql_error(text, at, "an interval is expected, such as 7 or 1-5, or a tag")
        first, last = int(found[1]), int(found[2] or found[1])
        if not 1 <= first <= last <= _MOST_MYSQL:
            raise _mysql_error(text, at, f"an interval has to rise, between 1 and {_MOST_MYSQL}")
        tag_at = -1
        yield key, (first, last)
    if tag_at >= 0:
        raise _mysql_error(text, tag_at, "a tag without an interval")


def parse_mariadb_text(text: str) -> Iterator[tuple[int, int, int]]:
    """(domain, server id, sequence number) of each member; raises PositionError."""
    for at, member in _pieces(text, ",", 0):
        found = _MARIADB.fullmatch(member)
        if found is None:
            raise _mariadb_error(text, at, "a domain, a server id and a sequence number are expected")
        domain, server, sequence = (int(number) for number in found.groups())
        for number, most, group in zip((domain, server, sequence), _MOST_MARIADB, (1, 2, 3), strict=True):
            if number > most:
                raise _mariadb_error(text, at + found.start(group), f"a number above {most}")
        yield domain, server, sequence


def _pieces(text: str, separator: str, offset: int) -> Iterator[tuple[int, str]]:
    """(position, piece) without the white space around each."""
    at = offset
    for piece in text.split(separator):
        yield at + len(piece) - len(piece.lstrip()), piece.strip()
        at += len(piece) + 1


def _mysql_error(text: str, at: int, reason: str) -> PositionError:
    return _error(text, at, f"a GTID set: {reason}", "uuid:1-5,uuid:tag:1-3")


def _mariadb_error(text: str, at: int, reason: str) -> PositionError:
    return _error(text, at, f"a MariaDB GTID position: {reason}", "0-1-100,1-2-7")


def _error(text: str, at: int, what: str, form: str) -> PositionError:
    return PositionError(
        f"{excerpt(text)} is not {what} at character {at + 1} ({excerpt(text[at : at + 40])}); write it as {form}"
    )
