"""Progress in a NATS key-value bucket, for consumers without a DuckDB file.

It is stored after a handler has returned, never before: a kill between the two repeats a few changes and loses none. An
update is conditional on the revision read before, so two consumers with one client id cannot both update it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.subjects import durable_name, key_value_bucket, stream_name, unescape
from binlogsync.consume.gaps import ConsumerGap
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, ProgressStore, Tracker
from binlogsync.consume.skips import Skip
from binlogsync.errors import ConsumeError, WireError
from binlogsync.nats.client import NatsConnection
from binlogsync.nats.key_value import KeyValueBucket

log = logging.getLogger(__name__)
_SKIPS = "/skips"
_MOVES = "/moves"
_GAPS = "/gaps"


class NatsProgress(ProgressStore):
    """A ProgressStore in the bucket CDC_<SOURCE>_progress."""

    def __init__(self, connection: NatsConnection, source: str) -> None:
        self._bucket = KeyValueBucket(connection, key_value_bucket(source, "progress"), stream=stream_name(source))
        self._revisions: dict[str, int] = {}

    def load(self, key: ProgressKey) -> ConsumerProgress:
        """See ProgressStore."""
        name = _name(key)
        found = self._bucket.get(name)
        self._revisions[name] = 0 if found is None else found[1]
        return _progress_of(found)

    def peek(self, key: ProgressKey) -> ConsumerProgress:
        """See ProgressStore: the revision that the next `move` requires stays the same."""
        return _progress_of(self._bucket.get(_name(key)))

    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """See ProgressStore."""
        name = _name(key)
        moved = replace(after, epoch=before.epoch + 1)
        value = json.dumps(asdict(moved)).encode()
        revision = self._bucket.put(name, value, self._revisions.get(name, 0))
        if revision is None and self._revisions.get(name, 0) and self._bucket.get(name) is None:
            log.warning("%s: key-value bucket %s was deleted; writing progress again", key, self._bucket.name)
            revision = self._bucket.put(name, value, 0)
        if revision is None:
            raise ConsumeError(
                f"{key}: progress in {self._bucket.name} was changed by another consumer with this client id: it is no "
                f"longer {before}; stop one of the two, or use another client id"
            )
        self._revisions[name] = revision
        return moved

    def forget(self, key: ProgressKey) -> bool:
        """Delete the progress of a consumer that does not run, with its records; False if there was none."""
        if self._bucket.state() is None:
            return False
        found = [name for kind in ("", _SKIPS, _MOVES, _GAPS) if self._bucket.get(name := _name(key) + kind)]
        for name in found:
            self._bucket.delete(name)
        return bool(found)

    def record_move(self, key: ProgressKey, line: str) -> None:
        """Append a line to the record of rewinds. Raises ConsumeError when another rewind is in progress."""
        name = _name(key) + _MOVES
        before, revision = self._bucket.get(name) or (b"", 0)
        if self._bucket.put(name, before + line.encode() + b"\n", revision) is None:
            raise ConsumeError(
                f"{key}: rewound ({line}), but another rewind is in progress; check the result with `binlogsync status`"
            )

    def moves(self, key: ProgressKey) -> Sequence[str]:
        """The recorded rewinds, oldest first."""
        found = self._bucket.get(_name(key) + _MOVES)
        return [] if found is None else found[0].decode().splitlines()

    def gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        """See ProgressStore."""
        name = _name(key) + _GAPS
        found = self._bucket.get(name)
        self._revisions[name] = 0 if found is None else found[1]
        return [] if found is None else [ConsumerGap.from_json(line) for line in found[0].splitlines()]

    def put_gaps(self, key: ProgressKey, gaps: Sequence[ConsumerGap]) -> None:
        """See ProgressStore."""
        name = _name(key) + _GAPS
        lines = b"".join(gap.to_json().encode() + b"\n" for gap in gaps)
        revision = self._bucket.put(name, lines, self._revisions.get(name, 0))
        if revision is None:
            raise ConsumeError(f"{key}: another process changed its gaps at the same time; try again")
        self._revisions[name] = revision

    def skips(self, key: ProgressKey) -> Sequence[Skip]:
        """See ProgressStore."""
        found = self._bucket.get(_name(key) + _SKIPS)
        return [] if found is None else [Skip.from_json(line) for line in found[0].splitlines()]

    def skip(self, key: ProgressKey, tracker: Tracker, done: tuple[ChangeBatch, int], skip: Skip) -> ConsumerProgress:
        """See ProgressStore. Writes the record first, and removes it when another process has updated progress."""
        name = _name(key) + _SKIPS
        found = self._bucket.get(name)
        before, revision = (b"", 0) if found is None else found
        put = self._bucket.put(name, before + skip.to_json().encode() + b"\n", revision)
        if put is None:
            raise ConsumeError(
                f"{key}: another process skips a change of this consumer; check the result, then try again"
            )
        try:
            return self.move(key, tracker.progress, tracker.after([done]))
        except ConsumeError:
            self._bucket.put(name, before, put)
            raise


def load_all_progress(connection: NatsConnection, source: str) -> dict[str, ConsumerProgress]:
    """Progress of all consumers that store it in NATS, by "client of database.table", or by key if that is hashed.

    Raises SinkError.
    """
    found = KeyValueBucket(connection, key_value_bucket(source, "progress")).items("*")
    return {
        _display_name(name): ConsumerProgress(**json.loads(value))
        for name, value in found.items()
        if not name.endswith((_SKIPS, _MOVES, _GAPS))
    }


def _progress_of(found: tuple[bytes, int] | None) -> ConsumerProgress:
    """The progress in an entry of the bucket (value, revision)."""
    return NO_PROGRESS if found is None else ConsumerProgress(**json.loads(found[0]))


def _display_name(name: str) -> str:
    parts = name.replace("/", "%").split("=")
    try:
        client, database, table = map(unescape, parts)
    except (ValueError, WireError):
        return name
    return f"{client} of {database}.{table}"


def _name(key: ProgressKey) -> str:
    """The key: the name of the durable with / instead of %, which NATS does not allow in keys."""
    return durable_name(key.client, key.database, key.table).replace("%", "/")
