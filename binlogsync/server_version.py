"""The kind and the version of a server: parsed from the version text that it reports, or read from its identity.

The two flavors differ in syntax, GTIDs and events. Code that depends on the flavor compares a `ServerFlavor`; only this
module looks at the texts. Pure values.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_MARIADB_UUID = "mariadb:"


class ServerFlavor(StrEnum):
    """MySQL or MariaDB. The values are stored in checkpoints."""

    MYSQL = "mysql"
    MARIADB = "mariadb"


class ServerVersion(NamedTuple):
    """A flavor and its version: (MYSQL, (9, 7, 4))."""

    flavor: ServerFlavor
    number: tuple[int, ...]


def parse_server_version(text: str) -> ServerVersion:
    """Parse what VERSION() and format descriptions contain: "9.7.4", "11.8.3-MariaDB-log".

    The number is () if the text does not begin with one. MariaDB's suffix is the only sign of the flavor in it.
    """
    flavor = ServerFlavor.MARIADB if "mariadb" in text.lower() else ServerFlavor.MYSQL
    match = _NUMBER.match(text)
    return ServerVersion(flavor, tuple(map(int, match[0].split("."))) if match else ())


def mariadb_server_uuid(server_id: int) -> str:
    """The identity that stands for the server_uuid, which MariaDB does not have."""
    return f"{_MARIADB_UUID}{server_id}"


def flavor_of(server_uuid: str) -> ServerFlavor:
    """The flavor of the server with this identity: a server_uuid of MySQL, or what mariadb_server_uuid returned."""
    return ServerFlavor.MARIADB if server_uuid.startswith(_MARIADB_UUID) else ServerFlavor.MYSQL
