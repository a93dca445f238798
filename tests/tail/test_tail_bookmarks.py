"""When a tail records a bookmark, its contents, and which ones expire. A memory store and sample flushes, no server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from binlogsync.bookmarks import Bookmark, BookmarkRetention
from binlogsync.errors import ConfigError, StoreError
from binlogsync.flush import Flush, FlushReason, SchemaChange
from binlogsync.stores.memory import MemoryBookmarks
from binlogsync.tail.bookmarks import Bookmarker, BookmarkRules
from binlogsync.tail.run import TailOptions
from tests.samples import FIRST_TS_US, SampleSource

START_S = FIRST_TS_US / 1e6 + 1000


class BookmarkerFixture:
    """A bookmarker with a settable clock, and the flushes of a source."""

    def __init__(self, store: MemoryBookmarks | None = None, keep: BookmarkRetention | None = None) -> None:
        self.now_s = START_S
        self.store = store or MemoryBookmarks()
        self.source = SampleSource()
        self.bookmarker = Bookmarker(
            "shop", self.store, BookmarkRules(600.0, keep or BookmarkRetention()), clock=lambda: self.now_s
        )

    def stored(self, reason: FlushReason = "interval", sequence: int | None = None, after_s: float = 0) -> Flush:
        self.now_s += after_s
        flush = replace(self.source.flush(2), reason=reason)
        if reason == "schema":
            place = flush.checkpoint.position
            change = SchemaChange("alter", (("shop", "orders"),), "ALTER TABLE orders ...", 9, place, None, 0)
            flush = replace(flush, schema_changes=(change,))
        self.bookmarker.stored(flush, sequence)
        return flush

    @property
    def kept(self) -> list[Bookmark]:
        return list(self.store.load("shop"))


def test_the_first_bookmark_is_where_the_tail_began() -> None:
    desk = BookmarkerFixture()
    start = desk.source.flush(1).start
    desk.bookmarker.begins(replace(start, ts_us=0), 41)
    flush = desk.stored()
    assert [(each.reason, each.checkpoint.position, each.sequence) for each in desk.kept] == [
        ("start", start.position, 41)
    ]
    assert desk.kept[0].at_us <= flush.checkpoint.ts_us, "not later than the changes after it"


def test_a_source_with_bookmarks_gets_none_for_a_restart() -> None:
    first = BookmarkerFixture()
    first.stored("rotation")
    again = BookmarkerFixture(first.store)
    again.bookmarker.begins(again.source.flush(1).start, None)
    again.stored()
    assert [each.reason for each in again.kept] == ["rotation"]


def test_one_is_due_after_the_interval_and_at_every_rotation_and_schema_change() -> None:
    desk = BookmarkerFixture()
    due = {}
    for after_s, reason, sequence in [
        (0, "interval", 1),
        (300, "rows", 2),
        (301, "rows", 3),
        (1, "rotation", 4),
        (1, "schema", 5),
        (598, "rows", 6),
        (2, "idle", None),
    ]:
        flush = desk.stored(reason, sequence, after_s)  # type: ignore[arg-type]
        due[flush.checkpoint.position] = (flush, desk.now_s)
    assert [(each.reason, each.sequence) for each in desk.kept] == [
        ("interval", 3),
        ("rotation", 4),
        ("schema", 5),
        ("interval", None),
    ]
    for each in desk.kept:
        flush, now_s = due[each.checkpoint.position]
        assert each.checkpoint == flush.checkpoint
        assert (each.at_us, each.made_us) == (flush.checkpoint.ts_us, int(now_s * 1e6))


def test_inside_a_transaction_there_is_none_and_the_next_place_has_it() -> None:
    desk = BookmarkerFixture()
    desk.stored()
    desk.now_s += 601
    cut = desk.source.flush(2)
    desk.bookmarker.stored(replace(cut, checkpoint=replace(cut.checkpoint, skip=5)), 1)
    assert desk.kept == []
    desk.stored(sequence=2)
    assert [each.sequence for each in desk.kept] == [2]


def test_what_retention_leaves_out_goes_and_what_is_pinned_stays() -> None:
    desk = BookmarkerFixture(keep=BookmarkRetention(3))
    desk.stored("rotation", 0)
    desk.store.put("shop", replace(desk.kept[0], pinned=True))
    for sequence in range(1, 8):
        desk.stored("rotation", sequence, after_s=1)
    assert [each.sequence for each in desk.kept] == [0, 5, 6, 7]


@pytest.mark.slow
def test_many_schema_changes_are_linear_and_push_out_no_other() -> None:
    class Counting(MemoryBookmarks):
        bookmarks_read = 0

        def load(self, source: str) -> Sequence[Bookmark]:
            found = super().load(source)
            self.bookmarks_read += len(found)
            return found

    store = Counting()
    desk = BookmarkerFixture(store, BookmarkRetention(3, schema_count=20))
    desk.stored("rotation", 0)
    read = []
    for number in range(600):
        desk.stored("schema", number)
        if number % 200 == 199:
            read.append(store.bookmarks_read)
            store.bookmarks_read = 0
    assert read[2] <= read[1] < 600, "each two hundred cost the same"
    desk.stored("rotation", 601, after_s=1)
    assert [each.sequence for each in desk.kept if each.reason == "rotation"] == [0, 601]
    assert [each.sequence for each in desk.kept if each.reason == "schema"] == list(range(580, 600))


def test_schema_changes_do_not_put_off_the_bookmark_that_is_due() -> None:
    desk = BookmarkerFixture()
    for number in range(3):
        desk.stored("schema", number, after_s=250)
    desk.stored("rows", 3, after_s=200)
    assert [each.reason for each in desk.kept] == ["schema", "schema", "schema", "interval"]


def test_a_store_that_is_away_costs_one_bookmark(caplog: pytest.LogCaptureFixture) -> None:
    class Away(MemoryBookmarks):
        is_away = True

        def put(self, source: str, bookmark: Bookmark) -> None:
            if self.is_away:
                raise StoreError("away")
            super().put(source, bookmark)

    store = Away()
    desk = BookmarkerFixture(store)
    desk.stored("rotation", 1)
    assert "no bookmark at" in caplog.text
    store.is_away = False
    desk.stored("rotation", 2)
    assert [each.sequence for each in desk.kept] == [2]


@pytest.mark.parametrize("wrong", [{"bookmark_s": 0}, {"bookmark_keep": 0}, {"bookmark_keep_s": -1}])
def test_options_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="bookmark"):
        TailOptions("shop", **wrong)  # type: ignore[arg-type]
