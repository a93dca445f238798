"""Contract tests of a BookmarkStore. The test of a store subclasses `BookmarkStoreContract` and defines the fixture
`open_bookmarks`; each call opens the same store again, like another process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from binlogsync.bookmarks import Bookmark
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.stores import BookmarkStore
from tests.stores.contract_checkpoints import AT
from tests.stores.process import UUID, large_gtid_set

OpenBookmarks = Callable[[], BookmarkStore]

BOOKMARK = Bookmark(replace(AT, skip=0), "interval", 1_764_000_000_123_456, 1_764_000_001_000_000, sequence=77)


class BookmarkStoreContract:
    @pytest.fixture
    def open_bookmarks(self) -> OpenBookmarks:
        raise NotImplementedError("each store's test gives its own")

    @pytest.fixture
    def bookmarks(self, open_bookmarks: OpenBookmarks) -> BookmarkStore:
        return open_bookmarks()

    def test_a_new_source_has_no_bookmarks(self, bookmarks: BookmarkStore) -> None:
        assert bookmarks.load("shop") == []
        assert not bookmarks.delete("shop", BOOKMARK.key)

    @pytest.mark.parametrize(
        "bookmark",
        [
            BOOKMARK,
            replace(BOOKMARK, name="before höhe 树洞; drop", pinned=True, reason="person"),
            replace(BOOKMARK, checkpoint=Checkpoint(BinlogPosition("binlog.000001", 4), UUID, large_gtid_set())),
            replace(BOOKMARK, checkpoint=Checkpoint(BinlogPosition("a-bin.1000000", 4), "mariadb:1"), sequence=None),
        ],
        ids=["tail's", "named", "large GTID set", "no GTIDs"],
    )
    def test_a_bookmark_is_kept_equal(
        self, open_bookmarks: OpenBookmarks, bookmarks: BookmarkStore, bookmark: Bookmark
    ) -> None:
        bookmarks.put("shop", bookmark)
        assert open_bookmarks().load("shop") == [bookmark]

    def test_bookmarks_come_in_the_order_of_their_keys(self, bookmarks: BookmarkStore) -> None:
        minutes = [replace(BOOKMARK, at_us=BOOKMARK.at_us + minute * 60_000_000) for minute in range(30)]
        for bookmark in [*minutes[20:], *minutes[:20]]:
            bookmarks.put("shop", bookmark)
        assert bookmarks.load("shop") == minutes
        assert bookmarks.load("other") == []

    def test_a_bookmark_of_the_same_key_is_replaced(self, bookmarks: BookmarkStore) -> None:
        bookmarks.put("shop", BOOKMARK)
        bookmarks.put("shop", replace(BOOKMARK, pinned=True))
        assert bookmarks.load("shop") == [replace(BOOKMARK, pinned=True)]

    def test_a_deleted_bookmark_is_gone(self, open_bookmarks: OpenBookmarks, bookmarks: BookmarkStore) -> None:
        later = replace(BOOKMARK, at_us=BOOKMARK.at_us + 1_000_000)
        for bookmark in (BOOKMARK, later):
            bookmarks.put("shop", bookmark)
        assert open_bookmarks().delete("shop", BOOKMARK.key)
        assert not bookmarks.delete("shop", BOOKMARK.key)
        assert bookmarks.load("shop") == [later]
