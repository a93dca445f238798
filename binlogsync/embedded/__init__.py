"""Private MySQL, MariaDB, NATS and Redis for the demo, the tests and a first look: no root, no Docker.

    with embedded.mysql() as server:
        server.connect()

Each is a context manager; the server is stopped when the block ends and dies with its process. What is not on this
machine is downloaded once into the cache folder (see cache.py); `python -m binlogsync.embedded` does that ahead of
time. Not for data that matter: they do not survive a power cut.
"""

from binlogsync.embedded.mariadb import MariaDBServer, mariadb
from binlogsync.embedded.mysql import MySQLServer, mysql
from binlogsync.embedded.nats import NATSServer, nats
from binlogsync.embedded.redis import RedisServer, redis

__all__ = ["MariaDBServer", "MySQLServer", "NATSServer", "RedisServer", "mariadb", "mysql", "nats", "redis"]
