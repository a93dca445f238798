"""Error codes of MySQL and MariaDB, with their names in the servers' sources.

MySQL's names are in mysqld_error.h, which is generated from share/messages_to_clients.txt; MariaDB's are in its own
mysqld_error.h, generated from sql/share/errmsg-utf8.txt. pymysql's `ER` does not contain the newer ones.
"""

from __future__ import annotations

from typing import Final

ER_CON_COUNT_ERROR: Final = 1040
ER_ACCESS_DENIED_ERROR: Final = 1045
ER_SERVER_SHUTDOWN: Final = 1053
ER_SHUTDOWN_COMPLETE: Final = 1079
ER_TABLEACCESS_DENIED_ERROR: Final = 1142
ER_USER_LIMIT_REACHED: Final = 1226
ER_SPECIFIC_ACCESS_DENIED_ERROR: Final = 1227
ER_SOURCE_FATAL_ERROR_READING_BINLOG: Final = 1236
ER_QUERY_INTERRUPTED: Final = 1317
ER_UNKNOWN_TARGET_BINLOG: Final = 1373
ER_NO_BINARY_LOGGING: Final = 1381
ER_SOURCE_HAS_PURGED_REQUIRED_GTIDS: Final = 1789
ER_MUST_CHANGE_PASSWORD: Final = 1820
ER_MUST_CHANGE_PASSWORD_LOGIN: Final = 1862
ER_QUERY_TIMEOUT: Final = 3024
ER_SERVER_OFFLINE_MODE: Final = 3032
ER_ACCOUNT_HAS_BEEN_LOCKED: Final = 3118
ER_SECURE_TRANSPORT_REQUIRED: Final = 3159
ER_SESSION_WAS_KILLED: Final = 3169
ER_CLIENT_INTERACTION_TIMEOUT: Final = 4031

MARIADB_ER_CONNECTION_KILLED: Final = 1927
MARIADB_ER_STATEMENT_TIMEOUT: Final = 1969
MARIADB_ER_ACCOUNT_HAS_BEEN_LOCKED: Final = 4151
