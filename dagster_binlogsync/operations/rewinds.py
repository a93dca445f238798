"""The job `rewind_<source>`: moves a consumer to an earlier position, or to a later one with a reason."""

from typing import Any

import dagster as dg
from pydantic import Field

from binlogsync.consume.progress import TableProgress
from binlogsync.errors import BinlogSyncError, ConfigError
from dagster_binlogsync.consume.preview import count_rows
from dagster_binlogsync.keys import safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.replay.reporter import build_replay_failure
from dagster_binlogsync.replay.source import RESOURCES, ReplaySource


class RewindConfig(dg.Config):
    """Which consumer to move, to which position, and why."""

    table: str = Field(description='"database.table" of a consumer of this source.')
    to: str = Field(
        description="The position: a bookmark, a time (2026-01-31T12:00:00Z), a GTID set, binlog.000042:1187, or "
        "seq:12345 for a message of the stream. The changes after it are delivered again, and no others."
    )
    reason: str = Field(
        default="",
        description="Stored with the rewind. Required to move forward without rebuild, which skips changes for good.",
    )
    rebuild: bool = Field(
        default=False, description="Read the table of the mirror again, and replace the mirror in one transaction."
    )


def build_rewind_job(source: ReplaySource) -> dg.JobDefinition:
    """The job `rewind_<source>`. Its result is shown on the page of the table and stored in the audit log."""
    name = safe_part(source.name)

    @dg.op(name=f"rewind_{name}_consumer", required_resource_keys=source.keys.require((*RESOURCES, "audit")))
    def _rewind(context: dg.OpExecutionContext, config: RewindConfig) -> None:
        from binlogsync.replay.rewind import RewindRequest, rewind

        table, asset = source.find(config.table)
        resources = source.keys.find(context)
        try:
            if asset is None:
                raise ConfigError(f"{table} has no consumer; there is nothing to rewind")
            key = asset.consumer.progress_key
            move = RewindRequest(
                key=key,
                to=config.to,
                reason=config.reason,
                who=f"run {context.run_id}",
                is_mirror=asset.is_mirror,
                rebuild=config.rebuild,
            )
            with source.sources(resources, table) as sources:
                moved = rewind(sources, TableProgress(resources.warehouse.file()), move, resources.audit.file())
        except BinlogSyncError as error:
            raise build_replay_failure(error, table) from None
        context.log.info(
            f"{key}: {moved}; a running consumer applies this within a minute, otherwise the next run starts there"
        )
        shown: dict[str, Any] = {
            "rewound": moved.direction,
            "to": config.to,
            "reason": config.reason or "none given",
            "messages": moved.messages,
            "was_at": str(moved.before),
            "is_at": str(moved.after),
        }
        if config.rebuild and asset.is_mirror:
            rows = count_rows(resources.warehouse.file(), table.database, table.table)
            shown["dagster/row_count"] = rows or 0
            context.log_event(dg.AssetMaterialization(asset.key, metadata=shown))
        else:
            context.log_event(dg.AssetObservation(asset.key, metadata=shown))

    return build_job(
        _rewind,
        f"rewind_{name}",
        f"Moves a consumer of {source.name} to an earlier position, or to a later one with a reason.",
    )
