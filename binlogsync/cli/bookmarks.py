"""`binlogsync bookmarks`: list, add, import, pin, unpin and delete bookmarks for replay and rewind."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace

from binlogsync.bookmarks import Bookmark, get_bookmark
from binlogsync.cli.config import read_text
from binlogsync.cli.output import write_line, write_message
from binlogsync.manual_bookmarks import add_bookmark
from binlogsync.migrate.bookmark_import import describe, import_bookmark
from binlogsync.settings import Settings
from binlogsync.stores import BookmarkStore
from binlogsync.text_format import format_time, time_of_us


def run(settings: Settings, arguments: Namespace) -> int:
    """Run one action on the bookmarks of a source. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    with closing(settings.positions()) as store:
        if arguments.action == "list":
            for bookmark in store.bookmarks.load(source):
                print_bookmark(bookmark)
        elif arguments.action == "add":
            added = add_bookmark(
                (settings.mysql(source), settings.nats(10.0)), store, source, (arguments.name, arguments.at)
            )
            write_message(f"added {added.key}")
        elif arguments.action == "import":
            text = read_text(arguments.file)
            write_message(describe(*import_bookmark(settings.mysql(source), store, source, text, arguments.name)))
        else:
            bookmark = get_bookmark(store.bookmarks.load(source), arguments.bookmark, source)
            _ACTIONS[arguments.action](store.bookmarks, source, bookmark)
    return 0


def print_bookmark(bookmark: Bookmark) -> None:
    """Write a bookmark as one tab-separated line to stdout."""
    pinned = "pinned" if bookmark.pinned else ""
    sequence = "" if bookmark.sequence is None else f"seq:{bookmark.sequence}"
    gtids = "" if bookmark.checkpoint.gtids is None else str(bookmark.checkpoint.gtids)
    made = format_time(time_of_us(bookmark.made_us))
    fields = (bookmark.key, bookmark.reason, made, sequence or "-", pinned or "-", gtids or "-")
    write_line("\t".join(fields))


def _pin(bookmarks: BookmarkStore, source: str, bookmark: Bookmark) -> None:
    bookmarks.put(source, replace(bookmark, pinned=True))
    write_message(f"pinned {bookmark.key}: it is stored until it is deleted")


def _unpin(bookmarks: BookmarkStore, source: str, bookmark: Bookmark) -> None:
    bookmarks.put(source, replace(bookmark, pinned=False))
    write_message(f"unpinned {bookmark.key}: it is subject to automatic removal again")


def _delete(bookmarks: BookmarkStore, source: str, bookmark: Bookmark) -> None:
    bookmarks.delete(source, bookmark.key)
    write_message(f"deleted {bookmark.key}")


_ACTIONS: Mapping[str, Callable[[BookmarkStore, str, Bookmark], None]] = {
    "pin": _pin,
    "unpin": _unpin,
    "delete": _delete,
}
