"""Where a tail begins: what its sinks hold, then what the position store knows, then what is configured.

The sinks' own word counts, because each stores its checkpoint with its data. A sink that holds less than the store says
has lost what it had acknowledged: the tail goes on from where the sink ends, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from binlogsync.bookmarks import Bookmark, get_bookmark
from binlogsync.errors import PositionError
from binlogsync.mysql import BookmarkStart, MySQLConfig, ServerInfo, parse_start, resolve_start
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.sinks.jetstream.stream import UNPROVEN
from binlogsync.stores import PositionStore
from binlogsync.wire.subjects import stream_name


@dataclass(frozen=True, slots=True)
class TailStart:
    """Where to begin.

    Attributes:
        start: the oldest checkpoint that counts.
        sinks: what each sink holds already, None for nothing.
        recoveries: what was found lost, a sentence each.
        moved: a sentence when the server is another than the one that was read last.
        is_first: nothing is held or known yet.
    """

    start: Checkpoint
    sinks: Mapping[Sink, Checkpoint | None]
    recoveries: tuple[str, ...]
    moved: str = ""
    is_first: bool = False

    def unidentified(self, info: ServerInfo) -> str:
        """A sentence when the start does not tell which log it is of, "" otherwise."""
        if self.is_first or self.start.log is not None or self.start.server_uuid != info.server_uuid:
            return ""
        return (
            f"the checkpoint {self.start} was stored by an older version, which did not note which log it is of; it is "
            "accepted, and the next one that is stored notes it"
        )

    @property
    def stored(self) -> Mapping[Sink, Checkpoint | None]:
        """What each sink is to get no more. Where reading begins before the start, an empty one begins at the start."""
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
    """Open the sinks and decide; where nothing is known yet, `start` counts, as it is configured or was found before.

    Raises SinkError, StoreError, SourceError, PositionError.
    """
    held = {sink: sink.open(source) for sink in sinks}
    saved = store.load(source)
    _check_proven(held, saved, source)
    known = [checkpoint for checkpoint in held.values() if checkpoint is not None]
    if saved is not None and None in held.values():
        known.append(saved)
    if not known:
        first = start if isinstance(start, Checkpoint) else first_start(config, lambda: store.bookmarks(source), start)
        return TailStart(first, held, (), is_first=True)
    oldest = _oldest(known, source)
    moved = ""
    if oldest.server_uuid != info.server_uuid:
        moved = f"the server is {info.server_uuid} now, it was {oldest.server_uuid}; going on by GTID from {oldest}"
    return TailStart(oldest, held, tuple(_losses(held, saved, oldest, source)), moved)


def first_start(config: MySQLConfig, bookmarks: Callable[[], Sequence[Bookmark]], start: str) -> Checkpoint:
    """Where a tail begins the first time, as it is configured; `bookmarks` are those of its source.

    Raises ConfigError, SourceError, PositionError.
    """
    wanted = parse_start(start)
    if not isinstance(wanted, BookmarkStart):
        return resolve_start(config, wanted)
    return get_bookmark(bookmarks(), wanted.name, config.source).checkpoint


def _oldest(known: Sequence[Checkpoint], source: str) -> Checkpoint:
    """The one from which a start reads all that any of them lacks."""
    oldest = known[0]
    for checkpoint in known[1:]:
        if checkpoint.precedes(oldest):
            oldest = checkpoint
    # Where GTID sets each lack something of the other, none of them is a place to begin.
    apart = [other for other in known if other is not oldest and other.precedes(oldest)]
    if apart:
        raise PositionError(
            f"{source}: its sinks hold different transactions: {oldest} of server {oldest.server_uuid} and "
            f"{apart[0]} of server {apart[0].server_uuid} each lack some of the other; fill one of the sinks anew"
        )
    return oldest


def _losses(
    held: Mapping[Sink, Checkpoint | None], saved: Checkpoint | None, oldest: Checkpoint, source: str
) -> Iterable[str]:
    """A sentence for each sink that is empty beside others, or holds less than it had acknowledged."""
    for sink, checkpoint in held.items():
        if checkpoint is None:
            known = f"{source} was stored up to {saved}" if saved is not None else "other sinks are not"
            yield (
                f"{sink.name} is empty, though {known}: it is new, or LOST EVERYTHING; going on from {oldest}, what "
                "lay before is not in it"
            )
        elif saved is not None and _is_before(checkpoint, saved):
            yield (
                f"{sink.name} ends at {checkpoint}, though it had acknowledged {source} up to {saved}: it LOST what "
                "lies between; reading that again"
            )


def _check_proven(held: Mapping[Sink, Checkpoint | None], saved: Checkpoint | None, source: str) -> None:
    """Raises PositionError for a checkpoint that does not tell where it was stored, in a stream of this version.

    The position store knows the sequence of the tail's last write: then a message without one was not written by it.
    """
    if saved is None or saved.sequence is None:
        return
    for sink, checkpoint in held.items():
        if isinstance(sink, JetStreamSink) and checkpoint is not None and checkpoint.sequence is None:
            stream = stream_name(source)
            raise PositionError(
                f"the last checkpoint in stream {stream} is a copy ({checkpoint}): it does not tell where it was "
                f"stored, and the last write of the tail was sequence {saved.sequence}; "
                f"{UNPROVEN.format(stream=stream)}"
            )


def _is_before(checkpoint: Checkpoint, saved: Checkpoint) -> bool:
    """False too when the two cannot be compared: where sinks know, the store's word is only a comparison."""
    if checkpoint.sequence is not None and saved.sequence is not None and checkpoint.sequence < saved.sequence:
        return True
    try:
        return checkpoint.precedes(saved)
    except PositionError:
        return False
