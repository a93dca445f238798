"""Identity of the log that a checkpoint belongs to: distinguishes binlogs with the same server, file names and offsets.

A server that was reset, restored or cloned writes other events under file names and offsets that existed before. The
head of a file (creation time, server id, transactions executed before it) and the last event before a position (its
time, and its checksum over header and body) do not coincide by chance. Frozen values; no I/O.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_DIGEST_BYTES = 8
_LOW = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class EventMark:
    """One event of a binlog file.

    Attributes:
        start: its offset.
        seconds: time in its header, seconds since 1970 UTC.
        checksum: CRC-32 of its header and body: from the server, or computed if the server writes none.
    """

    start: int
    seconds: int
    checksum: int

    @classmethod
    def of(cls, start: int, event: bytes, checksum: bytes) -> EventMark:
        """From an event (header and body) and the four bytes of checksum after it, b"" if there is none."""
        crc = int.from_bytes(checksum, "little") if checksum else zlib.crc32(event)
        return cls(start, int.from_bytes(event[:4], "little"), crc)

    @classmethod
    def unpacked(cls, start: int, packed: int) -> EventMark:
        """Seconds and checksum in one number, as kernels keep them; see `packed`."""
        return cls(start, packed >> 32 & _LOW, packed & _LOW)

    @property
    def packed(self) -> int:
        """Seconds and checksum as one signed number of 64 bits."""
        number = self.seconds << 32 | self.checksum
        return number - 2**64 if number >= 2**63 else number


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """The head of a binlog file, and the last event before a position in it.

    Attributes:
        file: its name; the name of the previous file for a position at the head of a file that was not read yet.
        begun: time in the header of its first event, seconds since 1970 UTC.
        server_id: in that header.
        previous: digest of its Previous_gtids or GTID list; "" if that was not read.
        event: the last event before the position, in this file; None if it was not read.
    """

    file: str
    begun: int
    server_id: int
    previous: str = ""
    event: EventMark | None = None

    def with_event(self, event: EventMark | None) -> LogIdentity:
        """The same head with this event."""
        return LogIdentity(self.file, self.begun, self.server_id, self.previous, event)

    def is_same_head(self, other: LogIdentity) -> bool:
        """True when both are of one file of one log, as far as it was read."""
        mine, others = (self.file, self.begun, self.server_id), (other.file, other.begun, other.server_id)
        return mine == others and (not self.previous or not other.previous or self.previous == other.previous)

    def to_record(self) -> dict[str, object]:
        """For JSON."""
        record: dict[str, object] = {"file": self.file, "begun": self.begun, "server_id": self.server_id}
        if self.previous:
            record["previous"] = self.previous
        if self.event is not None:
            record["event"] = [self.event.start, self.event.seconds, f"{self.event.checksum:08x}"]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LogIdentity:
        """Read what to_record made; raises KeyError, TypeError, ValueError."""
        event = None
        if "event" in record:
            start, seconds, checksum = record["event"]
            event = EventMark(int(start), int(seconds), int(checksum, 16))
        previous = str(record.get("previous", ""))
        return cls(str(record["file"]), int(record["begun"]), int(record["server_id"]), previous, event)

    def __str__(self) -> str:
        begun = datetime.fromtimestamp(self.begun, UTC)
        previous = f", previous GTIDs {self.previous}" if self.previous else ""
        return f"{self.file} begun {begun:%Y-%m-%d %H:%M:%S} UTC by server id {self.server_id}{previous}"


def digest(previous_gtids: bytes) -> str:
    """For `LogIdentity.previous`: of the body of a Previous_gtids event or GTID list, without its checksum."""
    return hashlib.blake2b(previous_gtids, digest_size=_DIGEST_BYTES).hexdigest()
