"""Flavor and version of a server, from its version text and from its identity."""

from __future__ import annotations

from uuid import UUID

import pytest

from binlogsync.server_version import ServerFlavor, flavor_of, mariadb_server_uuid, parse_server_version

MYSQL, MARIADB = ServerFlavor


@pytest.mark.parametrize(
    ("text", "flavor", "number"),
    [
        ("9.7.4", MYSQL, (9, 7, 4)),
        ("5.7.44-log", MYSQL, (5, 7, 44)),
        ("8.0.36-0ubuntu0.22.04.1", MYSQL, (8, 0, 36)),
        ("11.8.3-MariaDB", MARIADB, (11, 8, 3)),
        ("10.11.6-mariadb-1:10.11.6+maria~ubu2204-log", MARIADB, (10, 11, 6)),
        ("", MYSQL, ()),
        ("unknown", MYSQL, ()),
    ],
)
def test_a_version_text_has_a_flavor_and_a_number(text: str, flavor: ServerFlavor, number: tuple[int, ...]) -> None:
    assert parse_server_version(text) == (flavor, number)


def test_an_identity_has_a_flavor() -> None:
    assert mariadb_server_uuid(7) == "mariadb:7"
    assert flavor_of(mariadb_server_uuid(7)) == MARIADB
    assert flavor_of(str(UUID(int=7))) == MYSQL


def test_values_are_those_of_stored_checkpoints() -> None:
    assert [str(flavor) for flavor in ServerFlavor] == ["mysql", "mariadb"]
