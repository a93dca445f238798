"""Anonymous transactions in the log of a server with gtid_mode=ON, which does not send them.

They were logged before gtid_mode was switched on, which starts a new file, so they are in the oldest files.
"""

from __future__ import annotations

from binlogsync.errors import PositionError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.scan import BEGINS_TRANSACTION, scan
from binlogsync.mysql.server import ServerInfo
from binlogsync.mysql.server_errors import AnonymousTransactionError
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.server_version import ServerFlavor

FIRST_EVENT = 4


def first_sent(config: MySQLConfig, info: ServerInfo) -> int:
    """Number, in `info.files`, of the first file that the server sends from its beginning.

    Found by binary search for the last file that begins with a transaction without a GTID; 0 where there is none.
    Raises PositionError when that is the newest file, SourceError when the query fails.
    """
    if info.flavor != ServerFlavor.MYSQL or not info.gtids or not _begins_without_gtid(config, info, 0):
        return 0
    low, high = 0, len(info.files)
    while high - low > 1:
        middle = (low + high) // 2
        if _begins_without_gtid(config, info, middle):
            low = middle
        else:
            high = middle
    if high == len(info.files):
        raise PositionError(
            f"every binlog, up to {info.files[-1].name}, begins with transactions without GTIDs, which a server with "
            "gtid_mode=ON does not send; start a new file with FLUSH BINARY LOGS, and start at 'now'"
        )
    return high


def _begins_without_gtid(config: MySQLConfig, info: ServerInfo, number: int) -> bool:
    """Whether the first transaction from the head of that file on has no GTID."""
    begin = Checkpoint(BinlogPosition(info.files[number].name, FIRST_EVENT), info.server_uuid)
    try:
        with BinlogDump(config, begin, blocking=False, info=info) as dump:
            any(event.kind in BEGINS_TRANSACTION for event in scan(dump))
    except AnonymousTransactionError:
        return True
    return False
