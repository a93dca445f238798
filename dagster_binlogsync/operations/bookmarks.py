"""The job `bookmark_<source>`: add, pin, unpin, delete and list bookmarks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
from pydantic import Field

from binlogsync.bookmarks import Bookmark, get_bookmark
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.escaping import printable
from binlogsync.stores import PositionStore
from dagster_binlogsync.keys import TableName, binlog_key, safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.partitions import bookmark_partitions
from dagster_binlogsync.replay.reporter import build_replay_failure
from dagster_binlogsync.replay.source import RESOURCES, ReplaySource

LISTED = 200


class BookmarkConfig(dg.Config):
    """Which action, on which bookmark."""

    action: str = Field(default="add", description="add, pin, unpin, delete or list.")
    bookmark: str = Field(
        default="", description="add: name of the new bookmark. pin, unpin, delete: key or name of the bookmark."
    )
    at: str = Field(
        default="head",
        description="add: the position of the bookmark: head (the current end of the binlog), a time, a GTID set, "
        "binlog.000042:1187, or seq:12345 for a message of the stream.",
    )


def build_bookmark_job(source: ReplaySource) -> dg.JobDefinition:
    """The job `bookmark_<source>`. It lists the bookmarks in an observation of the binlog asset."""
    name = safe_part(source.name)

    @dg.op(name=f"bookmark_{name}_now", required_resource_keys=source.keys.require(RESOURCES))
    def _bookmark(context: dg.OpExecutionContext, config: BookmarkConfig) -> None:
        from binlogsync.manual_bookmarks import add_bookmark

        resources = source.keys.find(context)
        try:
            with resources.positions.store() as store:
                servers = (resources.mysql.config(source.name), resources.jetstream.options())
                if config.action == "add":
                    added = add_bookmark(servers, store, source.name, (config.bookmark, config.at))
                    context.log.info(f"added {added.key}")
                else:
                    context.log.info(_apply_action(store, source.name, config))
                bookmarks = store.bookmarks.load(source.name)
        except BinlogSyncError as error:
            raise build_replay_failure(error, TableName(source.name, "bookmarks", config.action)) from None
        partitions = str(bookmark_partitions(source.name).name)
        context.instance.add_dynamic_partitions(partitions, [bookmark.key for bookmark in bookmarks])
        shown: dict[str, Any] = {"bookmarks": len(bookmarks), "list": _bookmark_table(bookmarks)}
        context.log_event(dg.AssetObservation(binlog_key(source.name), metadata=shown))

    return build_job(
        _bookmark,
        f"bookmark_{name}",
        f"Adds, pins, unpins, deletes and lists bookmarks of {source.name}.",
    )


def _apply_action(store: PositionStore, source: str, config: BookmarkConfig) -> str:
    """Pin, unpin or delete a bookmark. Returns a log line. Raises ConfigError."""
    if config.action == "list":
        return "the bookmarks are listed in the observation of the binlog asset"
    if config.action not in ("pin", "unpin", "delete"):
        raise ConfigError(f"unknown action {config.action!r}; use add, pin, unpin, delete or list")
    bookmark = get_bookmark(store.bookmarks.load(source), config.bookmark, source)
    if config.action == "delete":
        store.bookmarks.delete(source, bookmark.key)
    else:
        store.bookmarks.put(source, replace(bookmark, pinned=config.action == "pin"))
    return f"{config.action}: {bookmark.key}"


def _bookmark_table(bookmarks: Sequence[Bookmark]) -> dg.TableMetadataValue:
    """The newest bookmarks as a table, with control characters of their names escaped."""
    newest = sorted(bookmarks, key=lambda each: each.key, reverse=True)[:LISTED]
    records = [
        {
            "bookmark": printable(each.key),
            "reason": printable(each.reason),
            "stream sequence": "" if each.sequence is None else str(each.sequence),
            "pinned": "yes" if each.pinned else "",
        }
        for each in newest
    ]
    columns = [dg.TableColumn(name) for name in ("bookmark", "reason", "stream sequence", "pinned")]
    return dg.MetadataValue.table([dg.TableRecord(record) for record in records], dg.TableSchema(columns))
