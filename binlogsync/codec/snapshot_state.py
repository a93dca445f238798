"""How far an incremental snapshot is, as a header of the stream: a restarted tail continues after the last stored row.

The last message of each publish unit of a tail carries the header while a snapshot is not finished, in the same fenced
write as the rows and the checkpoint. The last state of a finished one is kept until the checkpoint has moved, because
the ordinals of the next snapshot have to be higher at the same position.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import msgspec

from binlogsync.errors import WireError, excerpt
from binlogsync.position import FIRST_ORDINAL as FIRST_ORDINAL

SNAPSHOT_STATE = "Cdc-Snapshot"
"""SnapshotState.to_text() after this message."""
LAST_ORDINAL = (1 << 32) - 1
_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """State of a snapshot after some of its rows.

    Attributes:
        id: of the request.
        table: index of the current table among the tables of the request.
        name: (database, table) of the current table.
        key: of the last row of that table that was published, or left out because a change follows or precedes it: a
            SQL literal for each column of the key. Empty before the first row.
        order: identifies the order of the rows in which `key` is a place; "" before the first row.
        ordinal: of the next row.
        spent: how many ordinals since the first one are of resets, and of rows that were published before a reset.
        done: whether all rows of all tables are published, or the snapshot was cancelled.
        is_reset: whether the current table was reset, and rows of it are missing since.
        subject: the first tokens of the subjects of that reset, if it is for one consumer alone.
    """

    id: str
    table: int = 0
    name: tuple[str, str] = ("", "")
    key: tuple[str, ...] = ()
    order: str = ""
    ordinal: int = FIRST_ORDINAL
    done: bool = False
    spent: int = 0
    is_reset: bool = False
    subject: str | None = None

    def to_text(self) -> str:
        """One line of JSON in ASCII, as headers have to be."""
        return _ENCODER.encode(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> SnapshotState:
        """Read what to_text wrote. Raises WireError."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(
                f"{SNAPSHOT_STATE} is {excerpt(text)}, which no version of this tail writes ({error})"
            ) from error
