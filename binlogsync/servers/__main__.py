"""`python -m binlogsync.servers`: downloads every private server that is missing, and prints versions and paths."""

from __future__ import annotations

import sys

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import debian
from binlogsync.servers.mariadb import find_installation as find_mariadb
from binlogsync.servers.mysql import find_installation as find_mysql
from binlogsync.servers.nats import find_server as find_nats
from binlogsync.servers.redis import find_server as find_redis


def main() -> int:
    """0 when all servers are available, 1 when one is not; the others are downloaded in either case.

    MariaDB 10.11 is optional: without it, its tests are skipped.
    """
    missing = 0
    for fetch in (_mysql, _mariadb, _mariadb_10, _redis, _nats):
        try:
            sys.stdout.write(fetch() + "\n")
        except EmbeddedServerError as error:
            sys.stderr.write(f"{error}\n")
            missing += fetch is not _mariadb_10
    return min(missing, 1)


def _mysql() -> str:
    found = find_mysql()
    return f"MySQL   {found.version:8} {_program(found.command)}"


def _mariadb() -> str:
    found = find_mariadb()
    return f"MariaDB {found.version:8} {_program(found.command)}"


def _mariadb_10() -> str:
    found = find_mariadb("10.11")
    return f"MariaDB {found.version:8} {_program(found.command)}"


def _redis() -> str:
    found = find_redis()
    return f"Redis   {found.version:8} {_program(found.command)}"


def _nats() -> str:
    found = find_nats()
    return f"NATS    {found.version:8} {_program(found.command)}"


def _program(command: tuple[str, ...]) -> str:
    """The program of a command line that may start with a loader and its options, and its package index."""
    program = command[3] if len(command) > 2 and command[1] == "--library-path" else command[0]
    origin = debian.origin_of(program)
    return f"{program} ({origin})" if origin else program


if __name__ == "__main__":
    sys.exit(main())
