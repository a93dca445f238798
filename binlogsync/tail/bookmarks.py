"""Records the bookmarks of a tail: at its start, at every rotation and schema change, and at regular intervals.

A bookmark is recorded after every sink has stored the changes before it. If the position store fails, the bookmark is
lost with a warning and the tail continues. Each new bookmark deletes the expired ones. Bookmarks of schema changes do
so only after every hundredth, because there may be thousands and all bookmarks have to be read for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from binlogsync.bookmarks import Bookmark, BookmarkReason, BookmarkRetention
from binlogsync.errors import ConfigError, StoreError
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.stores import BookmarkStore

log = logging.getLogger(__name__)
_UNCHECKED = 100
"""Number of bookmarks of schema changes after which expired bookmarks are deleted."""


@dataclass(frozen=True, slots=True)
class BookmarkRules:
    """When a bookmark is due, and how long it is kept.

    Attributes:
        every_s: seconds between two bookmarks, if changes were stored and no other rule applied.
        keep: retention of unpinned bookmarks.
    """

    every_s: float = 600.0
    keep: BookmarkRetention = BookmarkRetention()

    def __post_init__(self) -> None:
        if self.every_s <= 0:
            raise ConfigError(f"the interval of bookmarks must be above 0 s, not {self.every_s}")


class Bookmarker:
    """Records the bookmarks of one source; used by the tail's thread alone. `clock` gives seconds since 1970."""

    def __init__(
        self, source: str, store: BookmarkStore, rules: BookmarkRules, clock: Callable[[], float] = time.time
    ) -> None:
        self._source = source
        self._store = store
        self._rules = rules
        self._clock = clock
        self._last_us: int | None = None
        self._unchecked = 0
        self._last_checkpoint: Checkpoint | None = None
        self._start: tuple[Checkpoint, int | None] | None = None

    def begins(self, start: Checkpoint, sequence: int | None) -> None:
        """The tail starts here; `sequence` is the stream sequence of the last message before, if known."""
        self._start = (start, sequence)

    def stored(self, flush: Flush, sequence: int | None) -> None:
        """Every sink has the flush; `sequence` is the stream sequence of its last message, if known."""
        if flush.checkpoint.skip:
            return
        try:
            if self._last_us is None:
                self._load_last(flush)
            reason = self._due(flush)
            if reason is not None and not self._is_at(flush.checkpoint):
                self._keep(flush.checkpoint, reason, flush.checkpoint.ts_us, sequence)
        except StoreError as error:
            log.warning("%s: no bookmark at %s: %s", self._source, flush.checkpoint, error)

    def _load_last(self, flush: Flush) -> None:
        """Load the time of the last bookmark; record one at the start of the tail if the source has none."""
        kept = self._store.load(self._source)
        own = [each for each in kept if each.reason not in ("person", "import")]
        if not own and self._start is not None and not self._start[0].skip:
            start, sequence = self._start
            self._keep(start, "start", start.ts_us or _first_ts_us(flush), sequence)
        timed = (each.made_us for each in own if each.reason != "schema")
        self._last_us = max(timed, default=self._now_us())

    def _due(self, flush: Flush) -> BookmarkReason | None:
        assert self._last_us is not None
        if flush.reason == "rotation":
            return "rotation"
        if self._now_us() - self._last_us >= self._rules.every_s * 1e6:
            return "interval"  # also at a schema change, so that frequent ones do not postpone it indefinitely
        return "schema" if flush.schema_changes else None

    def _is_at(self, checkpoint: Checkpoint) -> bool:
        last = self._last_checkpoint
        return last is not None and (last.position, last.server_uuid) == (checkpoint.position, checkpoint.server_uuid)

    def _keep(self, checkpoint: Checkpoint, reason: BookmarkReason, at_us: int, sequence: int | None) -> None:
        now_us = self._now_us()
        bookmark = Bookmark(checkpoint, reason, at_us or now_us, now_us, sequence=sequence)
        self._store.put(self._source, bookmark)
        self._last_checkpoint = checkpoint
        self._unchecked += 1
        if reason == "schema":  # these expire early where there are many, so they do not delay the others
            if self._unchecked < _UNCHECKED:
                return
        else:
            self._last_us = now_us
        self._unchecked = 0
        for old in self._rules.keep.expired(self._store.load(self._source), now_us):
            self._store.delete(self._source, old.key)
            log.info("%s: bookmark %s has expired and is deleted", self._source, old.key)

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def _first_ts_us(flush: Flush) -> int:
    """Commit time of the first change, that of the checkpoint where there is none."""
    times = [batch.source_values(0).ts_us for batch in flush.batches if len(batch)]
    return min(times, default=flush.checkpoint.ts_us)
