"""What is recorded about a consumer besides its progress: gaps, skipped changes and rewinds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from binlogsync.targets.progress import ProgressKey

REPLAY_CLIENT = "backfill "
"""Begin of the client id of a replay; its number follows."""
GapKind = Literal["retention", "recreated", "accepted", "foreign_key", "verification"]


@dataclass(frozen=True, slots=True)
class ConsumerGap:
    """Changes that one consumer may have missed.

    Attributes:
        kind: "retention" (the stream dropped messages), "recreated" (the stream begins after the progress),
            "accepted" (the binlog was purged, and the operator let the tail resume after it), "foreign_key" (the server
            changed rows of the table by a foreign key action, which it does not log), "verification" (a repair found
            that the mirror must be rebuilt).
        detail: describes what is missing; equal for the same gap.
        is_mirror: True when the consumer is a mirror, which rereading its table repairs.
        found_at: when it was first recorded, UTC.
        resolution: how it was resolved, "" while it is open.
        resolved_by: the user or program that resolved it.
    """

    kind: GapKind
    detail: str
    is_mirror: bool
    found_at: datetime
    resolution: str = ""
    resolved_by: str = ""

    def to_json(self) -> str:
        """One line; from_json reads it back."""
        return json.dumps({**asdict(self), "found_at": self.found_at.isoformat()}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ConsumerGap:
        """Read what to_json wrote."""
        record: dict[str, Any] = json.loads(text)
        return cls(**{**record, "found_at": datetime.fromisoformat(record["found_at"])})

    def __str__(self) -> str:
        text = f"{self.detail} (noted {self.found_at:%Y-%m-%d %H:%M:%SZ})"
        return f"{text}; resolved by {self.resolved_by}: {self.resolution}" if self.resolution else text


def new_gap(kind: GapKind, detail: str, *, is_mirror: bool) -> ConsumerGap:
    """A new gap, found now."""
    return ConsumerGap(kind, detail, is_mirror, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Skip:
    """Record of a skipped change.

    Attributes:
        client, source, database, table: the consumer.
        change_id, op, position: the change.
        change: its envelope, as in the stream.
        reason, by: why, and who skipped it.
        at: when, UTC.
    """

    client: str
    source: str
    database: str
    table: str
    change_id: str
    op: str
    position: str
    change: str
    reason: str
    by: str
    at: datetime

    def to_json(self) -> str:
        """One line; from_json reads it back."""
        return json.dumps({**asdict(self), "at": self.at.isoformat()}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Skip:
        """Read what to_json wrote."""
        record: dict[str, Any] = json.loads(text)
        return cls(**{**record, "at": datetime.fromisoformat(record["at"])})


@dataclass(frozen=True, slots=True)
class RewindRecord:
    """Record of a rewind.

    Attributes:
        key: the consumer.
        direction: "back" or "forward".
        place: the requested position, as given.
        reason, who: why, and who rewound it.
        messages: number of stream messages that are delivered again, or never.
        before, after: progress, as text.
        is_rebuilt: True when a mirror was rebuilt in the same transaction.
    """

    key: ProgressKey
    direction: str
    place: str
    reason: str
    who: str
    messages: int
    before: str
    after: str
    is_rebuilt: bool


@dataclass(frozen=True, slots=True)
class RepairRecord:
    """Record of a repair of a mirror: its rows with some keys were replaced by those of the table.

    Attributes:
        key: the mirror's consumer.
        who: who repaired it.
        at: the binlog position, as text, at which the rows were read and replaced.
        first_key, last_key: the first and the last of the keys.
        keys: number of keys.
        rows_read: number of rows that the table has for them.
        inserted, updated, deleted: number of rows of the mirror that were changed.
    """

    key: ProgressKey
    who: str
    at: str
    first_key: str
    last_key: str
    keys: int
    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        return (
            f"{self.first_key} to {self.last_key}: {self.keys} keys, {self.rows_read} rows read at {self.at}; "
            f"{self.inserted} inserted, {self.updated} updated, {self.deleted} deleted"
        )


@dataclass(frozen=True, slots=True)
class ReplayRecord:
    """Record of a replay.

    Attributes:
        number: identifies it.
        source, database, table: what is replayed.
        request: the request, as given.
        target: name of its target.
        plan: its plan, as text.
        is_finished: False while it can be resumed.
    """

    number: str
    source: str
    database: str
    table: str
    request: str
    target: str
    plan: str
    is_finished: bool = False

    @property
    def key(self) -> ProgressKey:
        """Its progress, while it is not finished: that of a separate client."""
        return ProgressKey(f"{REPLAY_CLIENT}{self.number}", self.source, self.database, self.table)
