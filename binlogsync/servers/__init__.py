"""Private MySQL, MariaDB, NATS and Redis for the demo, the tests and evaluation: no root, no Docker.

    with servers.mysql() as server:
        server.connect()

Each is a context manager; the server is stopped when the block ends and dies with its process. A server that this
machine does not have is downloaded once into the cache folder (see cache.py); `python -m binlogsync.servers` does that
in advance. Not for data that matter: they do not survive a power failure.
"""

from binlogsync.servers.mariadb import MariaDBServer, mariadb
from binlogsync.servers.mysql import MySQLServer, mysql
from binlogsync.servers.nats import NATSServer, nats
from binlogsync.servers.redis import RedisServer, redis

__all__ = ["MariaDBServer", "MySQLServer", "NATSServer", "RedisServer", "mariadb", "mysql", "nats", "redis"]
