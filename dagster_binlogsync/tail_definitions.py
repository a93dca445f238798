"""The tail of one source, without consumers: its job, binlog asset, checks, bookmarks and sensors.

`build_tail` gives them as Definitions, for projects that define the consumers themselves (`@binlogsync_assets`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg

from dagster_binlogsync.binlogsync_resource import BinlogsyncResource
from dagster_binlogsync.checks.hourly import build_check_job, build_check_schedule
from dagster_binlogsync.checks.sources import build_source_checks
from dagster_binlogsync.checks.streams import build_stream_checks
from dagster_binlogsync.checks.tail_alive import build_tail_alive_check
from dagster_binlogsync.keys import binlog_key
from dagster_binlogsync.operations.bookmarks import build_bookmark_job
from dagster_binlogsync.operations.snapshots import build_snapshot_job
from dagster_binlogsync.replay.source import ReplaySource
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.sensors.bookmarks import build_bookmark_sensor
from dagster_binlogsync.sensors.tail import build_tail_sensor
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tail.job import TailConfig, build_tail_job


@dataclass(frozen=True, slots=True)
class TailParts:
    """Assets, checks and jobs of a tail."""

    assets: Sequence[dg.AssetSpec]
    checks: Sequence[dg.AssetChecksDefinition]
    jobs: Sequence[dg.JobDefinition]


def build_tail(
    binlogsync: BinlogsyncResource, config: TailConfig | None = None, *, running: bool = False
) -> dg.Definitions:
    """The definitions of the tail of one source: job, sensors, binlog asset, hourly checks and bookmarks.

    Args:
        binlogsync: the source and its connections; its parts become resources whose keys contain the source.
        config: defaults of the options of the tail; None for those of the settings that `binlogsync` was made from.
        running: whether sensors and schedule are on by default. While they are off, nothing starts the tail.
    """
    source, keys = binlogsync.source, ResourceKeys.of_source(binlogsync.source)
    config = config or binlogsync.tail_config
    parts = build_tail_parts(source, (), config, keys)
    return dg.Definitions(
        assets=parts.assets,
        asset_checks=parts.checks,
        jobs=[*parts.jobs, build_check_job(source, parts.checks)],
        schedules=[build_check_schedule(source, running=running)],
        sensors=build_tail_sensors(source, keys, running=running),
        resources=binlogsync.parts(keys),
    )


def build_tail_parts(source: str, tables: Sequence[TableAsset], options: TailConfig, keys: ResourceKeys) -> TailParts:
    """Assets, checks and jobs of the tail of the source, which has these consumers."""
    checks = [
        build_tail_alive_check(source, keys),
        *build_source_checks(source, keys),
        *build_stream_checks(source, keys),
    ]
    jobs = [
        build_tail_job(source, options, keys),
        build_snapshot_job(source, keys),
        build_bookmark_job(ReplaySource(source, keys, tables, options)),
    ]
    return TailParts([build_binlog_spec(source)], checks, jobs)


def build_tail_sensors(source: str, keys: ResourceKeys, *, running: bool) -> list[dg.SensorDefinition]:
    """The sensors that keep the tail alive and register bookmarks as partitions."""
    return [
        build_tail_sensor(source, running=running, keys=keys),
        build_bookmark_sensor(source, running=running, keys=keys),
    ]


def build_binlog_spec(source: str) -> dg.AssetSpec:
    """The asset of the binary log of the source."""
    metadata: dict[str, Any] = {"binlogsync/source": source}
    return dg.AssetSpec(
        binlog_key(source),
        group_name="mysql",
        kinds={"mysql"},
        description=f"The binary log of {source}. Its tail observes it: open Plots for lag and rates.",
        metadata=metadata,
        # The tail materializes it once a minute, so a dead tail makes the asset stale.
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(minutes=10), warn_window=timedelta(minutes=3)
        ),
    )
