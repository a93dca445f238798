"""GTID sets of MySQL in bytes: as a replica sends them in its request for a dump, and as binlogs begin with them.

Both have one form: the number of members, and for each its UUID, its tag where there are tags, and its intervals, the
last of each not included. Sources: Gtid_set::encode in sql/rpl_gtid_set.cc, Tag::encode_tag in libs/mysql/gtid/tag.cpp.
"""

from __future__ import annotations

import struct
import uuid

from binlogsync.errors import SourceError
from binlogsync.position import GtidSet
from binlogsync.server_version import ServerFlavor


def is_tagged(gtids: GtidSet) -> bool:
    """True when one of the GTIDs has a tag (MySQL 8.3 and newer)."""
    return gtids.flavor == ServerFlavor.MYSQL and any(":" in key for key in gtids.members)


def encode_gtids(gtids: GtidSet) -> bytes:
    """A MySQL set as COM_BINLOG_DUMP_GTID takes it: what parse_previous_gtids reads.

    The form with tags is written only where there is one: servers before 8.3 do not know it.
    """
    tagged = is_tagged(gtids)
    count = len(gtids.members)
    parts = [struct.pack("<Q", (1 << 56) | (count << 8) | 1 if tagged else count)]
    for key, intervals in gtids.members.items():
        sid, _, tag = key.partition(":")
        parts.append(uuid.UUID(sid).bytes)
        if tagged:
            parts.append(bytes([len(tag) << 1]) + tag.encode())
        parts.append(struct.pack("<Q", len(intervals)))
        parts += [struct.pack("<QQ", first, last + 1) for first, last in intervals]
    return b"".join(parts)


def parse_previous_gtids(body: bytes) -> GtidSet:
    """The set in a PREVIOUS_GTIDS event, tagged or not. Raises SourceError when the event is damaged."""
    try:
        (count,) = struct.unpack_from("<Q", body)
        tagged = count >> 56 == 1
        if tagged:
            count = (count >> 8) & (2**48 - 1)
        parts, at = [], 8
        for _ in range(count):
            key, at = str(uuid.UUID(bytes=body[at : at + 16])), at + 16
            if tagged:
                length = body[at] >> 1
                tag, at = body[at + 1 : at + 1 + length].decode(), at + 1 + length
                key += f":{tag}" if tag else ""
            (intervals,) = struct.unpack_from("<Q", body, at)
            bounds = struct.unpack_from(f"<{2 * intervals}Q", body, at + 8)
            parts += [f"{key}:{first}-{after - 1}" for first, after in zip(bounds[::2], bounds[1::2], strict=True)]
            at += 8 + 16 * intervals
        return GtidSet.parse(",".join(parts), ServerFlavor.MYSQL)
    except (struct.error, ValueError, IndexError) as error:
        raise SourceError(f"a PREVIOUS_GTIDS event cannot be read ({error}); the binlog file looks damaged") from error
