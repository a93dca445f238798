"""Progress of a consumer with a table: which change it has applied last.

Progress contains the source coordinates of that change, and the stream sequence to seek by. The sequence is valid only
for the stream that was created at `stream`, because sequences repeat when a stream is recreated. If the two disagree,
the coordinates decide. An update is conditional on the progress that was read before, so two consumers with one client
id cannot both update it: the second raises and rolls back its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from binlogsync.errors import ProgressConflictError
from binlogsync.position import BinlogPosition, EventPosition

if TYPE_CHECKING:
    from binlogsync.change_batch import ChangeBatch


@dataclass(frozen=True, slots=True)
class ConsumerProgress:
    """The last applied change.

    Attributes:
        server_uuid, gtid, file, pos, row, order: its source coordinates (see change.Source).
        sequence: stream sequence of the message that contained it.
        seen: when this was stored, the stream had no change of this table after `sequence`, up to this sequence.
        changes: number of changes applied since the consumer was created.
        epoch: number of updates; each update is conditional on it.
        stream: when the stream that `sequence` and `seen` refer to was created (StreamReader.created_at); None if it
            is not known, as in progress of older versions.
    """

    server_uuid: str
    gtid: str | None
    file: str
    pos: int
    row: int
    order: int
    sequence: int
    seen: int
    changes: int = 0
    epoch: int = 0
    stream: str | None = None

    @property
    def coordinates(self) -> tuple[int, int, int]:
        """(file number, pos, row): compares in the order of the changes of one server."""
        return (BinlogPosition(self.file, 0).file_number, self.pos, self.row)

    @property
    def at(self) -> EventPosition:
        """The coordinates as a position, for comparisons."""
        return EventPosition(BinlogPosition(self.file, self.pos), self.server_uuid, self.gtid, self.row, self.order)

    @property
    def is_new(self) -> bool:
        """True when the consumer has applied no change yet, whether or not its start is stored."""
        return not self.server_uuid

    def after(self, batch: ChangeBatch, sequence: int, stream: str | None) -> ConsumerProgress:
        """Progress after the last change of `batch`, which has that sequence in the stream created at `stream`."""
        changes = self.changes + (len(batch) if batch.ddl is None else 0)
        return progress_at(batch, len(batch) - 1, sequence, self.seen, (changes, self.epoch, stream))

    def __str__(self) -> str:
        return f"{self.file}:{self.pos} row {self.row} (stream sequence {self.sequence})"


NO_PROGRESS = ConsumerProgress("", None, "binlog.0", 0, 0, 0, 0, 0)
"""Progress of a consumer that has applied no change yet."""


def progress_at(
    batch: ChangeBatch, index: int, sequence: int, seen: int, others: tuple[int, int, str | None] = (0, 0, None)
) -> ConsumerProgress:
    """Progress after the change at `index` of `batch`; `others` are `changes`, `epoch` and `stream`."""
    at, server = batch.source_values(index), batch.server_uuid
    # Not by `replace` later, which is several times slower: this runs for each change that arrives alone.
    return ConsumerProgress(server, at.gtid, at.file, at.pos, at.row, at.order, sequence, max(seen, sequence), *others)


@dataclass(frozen=True, slots=True)
class ProgressKey:
    """Identifies a consumer of a table."""

    client: str
    source: str
    database: str
    table: str

    def check(self, before: ConsumerProgress, kept: ConsumerProgress) -> None:
        """Raise ProgressConflictError unless the stored progress is still the one read before."""
        if kept != before:
            raise ProgressConflictError(
                f"{self}: progress was changed by another process: it was {before} and is {kept} now. If another "
                "consumer runs with this client id, stop one of the two or use another client id; if the consumer was "
                "rewound, run it again"
            )

    def __str__(self) -> str:
        return f"{self.database}.{self.table} of client {self.client!r}"
