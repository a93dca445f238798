"""Assembles the Definitions of any number of sources: tail job, binlog asset, consumers, checks, replays and jobs.

The caller passes resources, sensors and schedules, because their settings belong to the deployment. Resource keys that
the jobs require: "jetstream", "positions", "audit", "warehouse", and one MySQLSource per source.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from binlogsync.errors import ConfigError
from dagster_binlogsync.checks.mirrors import build_mirror_checks, build_verify_job
from dagster_binlogsync.checks.row_count import build_row_count_checks
from dagster_binlogsync.checks.sources import build_source_checks
from dagster_binlogsync.checks.streams import build_stream_checks
from dagster_binlogsync.checks.tail_alive import build_tail_alive_check
from dagster_binlogsync.consume.config import ContinuousConfig
from dagster_binlogsync.consumers_asset import (
    build_consume_job,
    build_consumers_asset,
    build_consumers_spec,
    build_continuous_job,
    build_table_job,
)
from dagster_binlogsync.discovery import ConsumerDefinitions, find_uncaptured
from dagster_binlogsync.keys import binlog_key
from dagster_binlogsync.operations.bookmarks import build_bookmark_job
from dagster_binlogsync.operations.decisions import build_acknowledge_job, build_skip_job
from dagster_binlogsync.operations.maintenance import prune_job
from dagster_binlogsync.operations.rewinds import build_rewind_job
from dagster_binlogsync.replay.replays import build_replay_asset, build_replay_job
from dagster_binlogsync.replay.source import ReplaySource
from dagster_binlogsync.tail.job import TailConfig, build_tail_job


def build_definitions(
    sources: Mapping[str, str],
    consumers: ConsumerDefinitions,
    options: TailConfig,
    *,
    resources: Mapping[str, Any],
    continuous: ContinuousConfig | None = None,
    sensors: Sequence[dg.SensorDefinition] = (),
    schedules: Sequence[dg.ScheduleDefinition] = (),
) -> dg.Definitions:
    """Build the definitions of sources and consumers.

    Args:
        sources: name of each source, with the resource key of its MySQLSource.
        consumers: the consumers, and assets and checks beside them.
        options: defaults of the tails; the Launchpad shows and overrides them.
        resources: the resources by key.
        continuous: options of continuous runs of consumers; None if consumers run on a backlog.
        sensors, schedules: those of the deployment.

    Raises ConfigError for a consumer of a source that is not in `sources`.
    """
    for table in consumers.tables:
        if table.name.source not in sources:
            raise ConfigError(
                f"{table.name} is consumed from source {table.name.source!r}, which is not in BINLOGSYNC_SOURCE"
            )
    assets: list[Any] = [*consumers.assets]
    checks: list[Any] = [*consumers.checks]
    jobs: list[Any] = [prune_job]
    jobs += [build_skip_job(consumers.tables), build_acknowledge_job(consumers.tables)] if consumers.tables else []
    for source, mysql_key in sources.items():
        tables = consumers.of(source)
        assets += [build_binlog_spec(source), *(spec for table in tables for spec in table.upstream)]
        verifying = build_mirror_checks(tables, mysql_key)
        checks += [build_tail_alive_check(source), *build_row_count_checks(tables, mysql_key), *verifying]
        jobs += [build_verify_job(source, verifying)] if verifying else []
        checks += [*build_source_checks(source, mysql_key), *build_stream_checks(source)]
        jobs.append(build_tail_job(source, options, mysql_key))
        if tables:
            assets.append(
                build_consumers_asset(
                    source, mysql_key, tables, consumers.code, uncaptured=find_uncaptured(tables, options)
                )
            )
            if continuous is not None:
                assets.append(build_consumers_spec(source, tables))
                jobs.append(build_continuous_job(source, mysql_key, tables, continuous))
            jobs += [build_consume_job(source, tables), *(build_table_job(table) for table in tables)]
        past = ReplaySource(source, mysql_key, tables, options)
        assets += [build_replay_asset(past, table) for table in tables]
        jobs += [build_replay_job(past), build_bookmark_job(past), build_rewind_job(past)]
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        sensors=sensors,
        schedules=schedules,
        resources=resources,
        executor=dg.in_process_executor,
    )


def build_binlog_spec(source: str) -> dg.AssetSpec:
    """The asset of the binary log of the source."""
    return dg.AssetSpec(
        binlog_key(source),
        group_name="mysql",
        kinds={"mysql"},
        description=f"The binary log of {source}. Its tail observes it: open Plots for lag and rates.",
        metadata={"binlogsync/source": source},
        # The tail materializes it once a minute, so a dead tail makes the asset stale.
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(minutes=10), warn_window=timedelta(minutes=3)
        ),
    )
