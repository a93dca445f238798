"""The raw bytes of a binlog dump.

`BinlogDump` opens the dump at a checkpoint and gives the MySQL protocol stream as it comes: packets of 3 bytes length,
1 byte sequence, and a payload that is 0x00 and an event, 0xff and an error (raise_server_error), or 0xfe at the end of
a non-blocking dump. Every reconnect is a new BinlogDump. It always starts at the position of its checkpoint.
"""

from __future__ import annotations

import logging
import secrets
import ssl
import threading
import uuid
from dataclasses import dataclass
from types import TracebackType

from pymysql.constants import ER

from binlogsync.binlog.event_index import HEADER_SIZE
from binlogsync.errors import PositionError, SourceError
from binlogsync.mysql.adapter import DumpRequest, RawStream, open_stream
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch, translate_errors
from binlogsync.mysql.gtid_sets import encode_gtids
from binlogsync.mysql.server import ServerInfo, inspect_server
from binlogsync.mysql.session import Connection
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor

_LOG = logging.getLogger(__name__)

FIRST_BYTES_S = 120.0  # to find the position of a GTID set the server reads the header of every binlog file
SILENCE_HEARTBEATS = 3
_POSITION_LIMIT = 2**32
_ROTATE_SIZE = HEADER_SIZE + 8  # and the name of the next file, and a checksum
_UUID_SPACE = uuid.UUID("7b1c6d5e-55a4-4b0d-9a55-0d8f5c1f7a11")


@dataclass(frozen=True, slots=True)
class DumpStart:
    """Where a dump starts: after the transactions in `gtids` if there are any, else at file and position."""

    position: BinlogPosition
    gtids: GtidSet | None = None


def find_dump_start(checkpoint: Checkpoint, info: ServerInfo) -> DumpStart:
    """How to request the changes after the checkpoint from this server. Raises PositionError if impossible."""
    known = checkpoint.gtids
    if known and info.gtids:
        if known.flavor != info.flavor:
            raise PositionError(
                f"the position is of {known.flavor} ({known}), the server is {info.flavor}; start at 'now' or 'oldest'"
            )
        return DumpStart(checkpoint.position, known)
    if checkpoint.server_uuid == info.server_uuid:
        return DumpStart(_within_limit(checkpoint.position, info))
    if known is not None and not known and info.gtids and not info.purged and info.files:
        # A dump with an empty set would start now; if nothing was purged, the first file is the start.
        return DumpStart(BinlogPosition(info.files[0].name, 4))
    raise PositionError(
        f"{checkpoint.position} belongs to server {checkpoint.server_uuid}, and {info.server_uuid} cannot locate "
        "it without GTIDs; connect to that server, or choose a new start ('now', 'oldest', a time) and accept the gap"
    )


def _within_limit(position: BinlogPosition, info: ServerInfo) -> BinlogPosition:
    """A dump by file has 32 bits for the position; after a huge transaction at the end of a file, use the next file."""
    if position.pos < _POSITION_LIMIT:
        return position
    names = [file.name for file in info.files]
    file = info.file(position.file)
    if file is not None and file.name != names[-1]:
        following = names[names.index(file.name) + 1]
        if file.size - position.pos in (_ROTATE_SIZE + len(following), _ROTATE_SIZE + len(following) + 4):
            return BinlogPosition(following, 4)
    raise PositionError(
        f"{position} is beyond 4 GiB, and MySQL serves such positions by GTID only; turn GTIDs on, or start at "
        "an earlier "
        "position of the file, or at the next file"
    )


class BinlogDump:
    """A context manager: the dump is open inside the block, and `readinto` gives its bytes.

    A blocking dump waits for new events and never ends by itself; with `blocking=False` the server ends it at the
    end of the log (an 0xfe packet, then 0 bytes), and does not list it as a replica.
    """

    def __init__(
        self, config: MySQLConfig, checkpoint: Checkpoint, *, blocking: bool = True, info: ServerInfo | None = None
    ) -> None:
        """`info` saves a look at the server when the caller has one. Nothing is opened yet."""
        self.config = config
        self.checkpoint = checkpoint
        self.blocking = blocking
        self._info = info
        self._stream: RawStream | None = None
        self._closed = False
        self._logged_in = False
        self._heard = False
        self._closing = threading.Lock()

    def __enter__(self) -> BinlogDump:
        """Opens the dump. Raises SourceError, PositionError."""
        info = self._info or inspect_server(self.config)
        request = self._request(find_dump_start(self.checkpoint, info), info)
        try:
            with translate_errors(self.config):
                stream = open_stream(request, self._connect)
        except SourceError as error:
            if self._logged_in and error_code(error) == ER.ACCESS_DENIED_ERROR:
                user = self.config.user
                message = (
                    f"{user} at {self.config.address} may not read the binlog: REPLICATION SLAVE on *.* is missing"
                )
                raise SourceError(f"{message}; binlogsync doctor prints the GRANT") from error
            raise
        self._stream = stream
        if self._closed:
            self.close()
        how = f"after GTIDs {request.gtids}" if request.gtids else f"at {request.file}:{request.pos}"
        _LOG.debug("binlog dump of %s opened %s", self.config.address, how)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def silence_s(self) -> float:
        """Seconds without any byte, heartbeats included, after which the server counts as gone."""
        return SILENCE_HEARTBEATS * self.config.heartbeat_s

    @property
    def heard(self) -> bool:
        """True once the server has sent something."""
        return self._heard

    @property
    def encrypted(self) -> bool:
        """True when the bytes come over TLS."""
        return self._open_stream().encrypted

    def fileno(self) -> int:
        """The socket, for poll, after read_now gave -1."""
        return self._open_stream().fileno()

    def readinto(self, view: memoryview) -> int:
        """Waits for bytes and puts them into `view`; returns how many, 0 at the end or after close().

        Raises SourceError when the connection breaks, or when nothing is heard for `silence_s`.
        """
        self._open_stream().set_timeout(self.silence_s if self._heard else max(FIRST_BYTES_S, self.silence_s))
        count = self.read_now(view)
        if count < 0:
            raise SourceError(silence_message(self.config, self.silence_s))
        return count

    def read_now(self, view: memoryview) -> int:
        """The same without waiting, once `never_wait` was called: -1 when there are no bytes yet."""
        stream = self._open_stream()
        try:
            count = stream.readinto(view)
        except (BlockingIOError, ssl.SSLWantReadError, TimeoutError):
            return -1
        except (OSError, ValueError) as error:
            if self._closed:
                return 0
            raise SourceError(f"the binlog dump of {self.config.address} broke: {error}; reconnect") from error
        self._heard = self._heard or count > 0
        return count

    def never_wait(self) -> None:
        """For a reader that polls `fileno` itself."""
        self._open_stream().set_timeout(0)

    def close(self) -> None:
        """Ends the dump, and a read that waits in another thread; safe to call from any thread, and again."""
        with self._closing:
            self._closed = True
            if self._stream is not None:
                self._stream.shutdown()
                self._stream.close()

    def interrupt(self) -> None:
        """Ends a read that waits in another thread, but keeps the socket until close()."""
        self._closed = True
        if self._stream is not None:
            self._stream.shutdown()

    def _open_stream(self) -> RawStream:
        if self._stream is None:
            raise SourceError("the binlog dump is not open; use it as a context manager")
        return self._stream

    def _request(self, place: DumpStart, info: ServerInfo) -> DumpRequest:
        config, is_mysql = self.config, info.flavor == ServerFlavor.MYSQL
        return DumpRequest(
            file=place.position.file,
            pos=place.position.pos,
            gtids=str(place.gtids or ""),
            encoded_gtids=encode_gtids(place.gtids) if place.gtids and is_mysql else None,
            mariadb=not is_mysql,
            # A short dump must not end the dump of the running tail: the server allows one per id.
            server_id=config.replica_id if self.blocking else 2**29 + secrets.randbelow(2**29),
            name=config.replica_name if self.blocking else None,
            uuid=str(uuid.uuid5(_UUID_SPACE, config.replica_identity)) if self.blocking else None,
            heartbeat_s=config.heartbeat_s,
            blocking=self.blocking,
        )

    def _connect(self) -> Connection:
        """Files written under an older binlog_checksum keep their checksums only for a client that supports them."""
        connection = connect(self.config)
        fetch(self.config, connection, "SET @master_binlog_checksum = 'CRC32'")
        self._logged_in = True
        return connection


def silence_message(config: MySQLConfig, seconds: float) -> str:
    """For the error of the watchdog."""
    return (
        f"nothing heard from {config.address} for {seconds:.0f} s, not even a heartbeat (asked for every "
        f"{config.heartbeat_s:g} s); the server or the network is gone: reconnect"
    )
