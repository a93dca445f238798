"""Finds where a tail starts: at the checkpoints of its sinks, else of the position store, else where configured.

The checkpoints of the sinks take precedence, because each sink stores its checkpoint with its data. A sink that ends
before the saved checkpoint has lost acknowledged changes: the tail resumes where the sink ends, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from binlogsync.bookmarks import Bookmark, get_bookmark
from binlogsync.codec.subjects import stream_name
from binlogsync.errors import PositionError
from binlogsync.mysql import MySQLConfig, ServerInfo, resolve_start
from binlogsync.nats.stream_end import UNPROVEN
from binlogsync.position import Checkpoint
from binlogsync.position_order import PositionOrder, compare, compare_or_raise
from binlogsync.sinks import Sink
from binlogsync.start_notation import BookmarkStart, parse_start
from binlogsync.stores import PositionStore


@dataclass(frozen=True, slots=True)
class TailStart:
    """Where a tail starts.

    Attributes:
        start: the oldest checkpoint of the sinks and the store.
        sinks: the checkpoint of each sink, None for an empty one.
        recoveries: one sentence for each detected loss.
        moved: a sentence if the server is not the one that was read last, else "".
        is_first: True when there is no checkpoint yet.
    """

    start: Checkpoint
    sinks: Mapping[Sink, Checkpoint | None]
    recoveries: tuple[str, ...]
    moved: str = ""
    is_first: bool = False

    def unidentified(self, info: ServerInfo) -> str:
        """A sentence if the start has no log identity, else ""."""
        if self.is_first or self.start.log is not None or self.start.server_uuid != info.server_uuid:
            return ""
        return (
            f"the checkpoint {self.start} was stored by an older version, without the identity of its log; it is "
            "accepted, and the next checkpoint contains the identity"
        )

    @property
    def stored(self) -> Mapping[Sink, Checkpoint | None]:
        """The checkpoint of each sink; `start` for an empty sink if reading begins before it."""
        if self.start.resume is None:
            return self.sinks
        return {sink: checkpoint or self.start for sink, checkpoint in self.sinks.items()}


def find_tail_start(
    config: MySQLConfig,
    info: ServerInfo,
    sinks: Iterable[Sink],
    store: PositionStore,
    source: str,
    start: str | Checkpoint,
) -> TailStart:
    """Open the sinks and find the start; without any checkpoint it is `start`, as configured or as found before.

    Raises SinkError, StoreError, SourceError, PositionError.
    """
    held = {sink: sink.open(source) for sink in sinks}
    saved = store.checkpoints.load(source)
    _check_proven(held, saved, source)
    known = [checkpoint for checkpoint in held.values() if checkpoint is not None]
    if saved is not None and None in held.values():
        known.append(saved)
    if not known:
        bookmarks = partial(store.bookmarks.load, source)
        first = start if isinstance(start, Checkpoint) else first_start(config, bookmarks, start)
        return TailStart(first, held, (), is_first=True)
    oldest = _oldest(known, source)
    moved = ""
    if oldest.server_uuid != info.server_uuid:
        moved = f"the server is {info.server_uuid} now, it was {oldest.server_uuid}; resuming by GTID from {oldest}"
    return TailStart(oldest, held, tuple(_losses(held, saved, oldest, source)), moved)


def first_start(config: MySQLConfig, bookmarks: Callable[[], Sequence[Bookmark]], start: str) -> Checkpoint:
    """Where a tail starts for the first time, as configured; `bookmarks` returns the bookmarks of its source.

    Raises ConfigError, SourceError, PositionError.
    """
    wanted = parse_start(start)
    if not isinstance(wanted, BookmarkStart):
        return resolve_start(config, wanted)
    return get_bookmark(bookmarks(), wanted.name, config.source).checkpoint


def _oldest(known: Sequence[Checkpoint], source: str) -> Checkpoint:
    """The checkpoint from which a start reads every change that is missing from any sink."""
    oldest = known[0]
    for checkpoint in known[1:]:
        if compare_or_raise(checkpoint, oldest).may_be_before:
            oldest = checkpoint
    # If each GTID set has transactions that are missing from the other, neither is a valid start.
    apart = [other for other in known if other is not oldest and compare_or_raise(other, oldest).may_be_before]
    if apart:
        raise PositionError(
            f"{source}: its sinks hold different transactions: {oldest} of server {oldest.server_uuid} and "
            f"{apart[0]} of server {apart[0].server_uuid} each have "
            "transactions that the other does not have; rebuild one of the sinks"
        )
    return oldest


def _losses(
    held: Mapping[Sink, Checkpoint | None], saved: Checkpoint | None, oldest: Checkpoint, source: str
) -> Iterable[str]:
    """One sentence for each sink that is empty while others are not, or that lost acknowledged changes."""
    for sink, checkpoint in held.items():
        if checkpoint is None:
            known = f"{source} was stored up to {saved}" if saved is not None else "other sinks are not"
            yield (
                f"{sink.name} is empty, though {known}: it is new, or LOST EVERYTHING; resuming from {oldest}, it "
                "does not get earlier changes"
            )
        elif saved is not None and _has_lost(checkpoint, saved):
            yield (
                f"{sink.name} ends at {checkpoint}, though it had acknowledged {source} up to {saved}: it LOST the "
                "changes between; reading them again"
            )


def _check_proven(held: Mapping[Sink, Checkpoint | None], saved: Checkpoint | None, source: str) -> None:
    """Raises PositionError for a checkpoint without a stream sequence in a stream that this version has written.

    If the position store has the sequence of the tail's last write, a message without one was not written by the tail.
    """
    if saved is None or saved.sequence is None:
        return
    for sink, checkpoint in held.items():
        if sink.last_sequence is not None and checkpoint is not None and checkpoint.sequence is None:
            stream = stream_name(source)
            raise PositionError(
                f"the last checkpoint in stream {stream} is a copy ({checkpoint}): it contains no stream "
                f"sequence, and the last write of the tail was sequence {saved.sequence}; "
                f"{UNPROVEN.format(stream=stream)}"
            )


def _has_lost(checkpoint: Checkpoint, saved: Checkpoint) -> bool:
    """True when the checkpoint of a sink does not contain all changes before the saved one.

    If the order is unknown, it has lost changes if the GTID sets diverge; without GTIDs nothing proves a loss.
    """
    if checkpoint.sequence is not None and saved.sequence is not None and checkpoint.sequence < saved.sequence:
        return True
    order = compare(checkpoint, saved)
    has_gtids = checkpoint.gtids is not None and saved.gtids is not None
    return order is PositionOrder.BEFORE or (order is PositionOrder.UNKNOWN and has_gtids)
