"""Assembles the Definitions of any number of sources: tail job, binlog asset, consumers, checks, replays and jobs.

`build_definitions` makes all of them from settings and consumers, `build_tail` only the tail of one source, and
`assemble_definitions` lets the caller choose resources and sensors. None of them sets an executor, because
`Definitions.merge` allows one per project, and all names contain the source, so their results can be merged.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg

from binlogsync.collection import without_collection
from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from dagster_binlogsync.checks.hourly import build_check_job, build_check_schedule
from dagster_binlogsync.checks.mirrors import build_mirror_checks, build_verify_job
from dagster_binlogsync.checks.row_count import build_row_count_checks
from dagster_binlogsync.consume.config import ContinuousConfig
from dagster_binlogsync.consume.execution import RunConsumers, run_consumers
from dagster_binlogsync.consumers_asset import (
    build_consume_job,
    build_consumers_asset,
    build_consumers_spec,
    build_continuous_job,
)
from dagster_binlogsync.discovery import ConsumerDefinitions, collect_definitions, find_definitions, find_uncaptured
from dagster_binlogsync.mirror_patterns import StoredLists
from dagster_binlogsync.operations.decisions import build_accept_job, build_acknowledge_job, build_skip_job
from dagster_binlogsync.operations.removal import build_remove_job
from dagster_binlogsync.operations.rewinds import build_rewind_job
from dagster_binlogsync.options import build_continuous_config, build_tail_config
from dagster_binlogsync.replay.replays import build_replay_asset, build_replay_job
from dagster_binlogsync.replay.source import ReplaySource
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.from_settings import build_resources
from dagster_binlogsync.sensors.backlog import build_backlog_sensor
from dagster_binlogsync.sensors.continuous import build_continuous_sensor
from dagster_binlogsync.sensors.tables import build_tables_check, build_tables_sensor
from dagster_binlogsync.tail.job import TailConfig
from dagster_binlogsync.tail_definitions import build_tail_parts, build_tail_sensors


@without_collection()
def build_definitions(
    settings: Settings | None = None,
    consumers: ConsumerDefinitions | ModuleType | Iterable[object] = (),
    *,
    tail: TailConfig | None = None,
    continuous: ContinuousConfig | None = None,
    running: bool | None = None,
    keys: Mapping[str, ResourceKeys] | None = None,
    resources: Mapping[str, Any] | None = None,
    sensors: Sequence[dg.SensorDefinition] | None = None,
    replay_assets: bool = True,
) -> dg.Definitions:
    """Everything at once: the definitions of all sources of the settings, and of their consumers.

    Args:
        settings: the settings; None reads them (docs/settings.md).
        consumers: what `mirror`, `mirrors` and `table_consumer` return, in any iterable, a package whose modules
            contain them, or what `find_definitions` found.
        tail: defaults of the options of the tails; None for those of the settings.
        continuous: options of continuous runs of consumers; None for those of the settings.
        running: whether sensors and schedules are on by default; None for the setting.
        keys: keys of the resources of each source; None for keys that contain the source.
        resources: the resources by key; None for those of the settings.
        sensors: the sensors; None for all of them.
        replay_assets: whether each table has a replay asset, for backfills. Its partitions are bookmarks, so a job of
            all assets of the project would have these partitions; without replay assets, the job `replay_<source>`
            replays any range.

    Raises ConfigError.
    """
    settings = settings or Settings.read()
    found = _find_consumers(consumers)
    tail, continuous = tail or build_tail_config(settings), continuous or build_continuous_config(settings)
    keys = keys or {source: ResourceKeys.of_source(source) for source in settings.sources()}
    running = settings.values.dagster.sensors if running is None else running
    if sensors is None:
        sensors = [
            sensor
            for source in settings.sources()
            for sensor in build_source_sensors(source, found, tail, keys[source], continuous, running=running)
        ]
    return assemble_definitions(
        keys,
        found,
        tail,
        resources=build_resources(settings, keys) if resources is None else resources,
        continuous=continuous,
        sensors=sensors,
        schedules=[build_check_schedule(source, running=running) for source in keys],
        replay_assets=replay_assets,
    )


def assemble_definitions(
    sources: Mapping[str, ResourceKeys],
    consumers: ConsumerDefinitions,
    options: TailConfig,
    *,
    resources: Mapping[str, Any],
    continuous: ContinuousConfig | None = None,
    sensors: Sequence[dg.SensorDefinition] = (),
    schedules: Sequence[dg.ScheduleDefinition] = (),
    replay_assets: bool = True,
    execute: RunConsumers = run_consumers,
    lists: StoredLists | None = None,
) -> dg.Definitions:
    """Build the definitions of sources and consumers.

    Args:
        sources: name of each source, with the keys of its resources.
        consumers: the consumers, and assets and checks beside them.
        options: defaults of the tails; the Launchpad shows and overrides them.
        resources: the resources by key.
        continuous: options of continuous runs of consumers; None if consumers run on a backlog.
        sensors, schedules: those of the deployment.
        replay_assets: whether each table has a replay asset.
        execute: consumes the selected tables in a run.
        lists: where the lists of tables are; None for the folder of the options.

    Raises ConfigError for a consumer of a source that is not in `sources`.
    """
    for name in (one.name for one in consumers.tables):
        if name.source not in sources:
            raise ConfigError(f"{name} is consumed from source {name.source!r}, which is not in BINLOGSYNC_SOURCE")
    assets: list[Any] = [*consumers.assets]
    checks: list[Any] = [*consumers.checks]
    jobs: list[Any] = []
    for source, keys in sources.items():
        tables, patterns = consumers.of(source), consumers.patterns_of(source)
        parts = build_tail_parts(source, tables, options, keys)
        assets += [*parts.assets, *(spec for table in tables for spec in table.upstream)]
        checks += parts.checks
        jobs += parts.jobs
        verifying = build_mirror_checks(source, tables, keys)
        checks += [*build_row_count_checks(source, tables, keys), *verifying]
        jobs += [build_verify_job(source, verifying)] if verifying else []
        jobs.append(build_check_job(source, [*parts.checks, *verifying]))
        if patterns and options.table_lists:
            stored = lists or StoredLists(Path(options.table_lists))
            checks.append(build_tables_check(source, patterns, tables, stored))
        if tables:
            uncaptured = find_uncaptured(tables, options)
            assets.append(build_consumers_asset(source, keys, tables, consumers.code, uncaptured, execute))
            jobs += [build_consume_job(source, tables), build_skip_job(source, tables, keys)]
            jobs.append(build_acknowledge_job(source, tables, keys))
            if any(each.consumer.mirror and each.consumer.mirror.schema_contract == "freeze" for each in tables):
                jobs.append(build_accept_job(source, tables, keys))
            if continuous is not None:
                assets.append(build_consumers_spec(source, tables))
                jobs.append(build_continuous_job(source, keys, tables, continuous))
        past = ReplaySource(source, keys, tables, options)
        assets += [build_replay_asset(past, table) for table in tables if replay_assets]
        jobs += [build_replay_job(past), build_rewind_job(past), build_remove_job(past)]
    return dg.Definitions(
        assets=assets, asset_checks=checks, jobs=jobs, sensors=sensors, schedules=schedules, resources=resources
    )


def build_source_sensors(
    source: str,
    consumers: ConsumerDefinitions,
    options: TailConfig,
    keys: ResourceKeys,
    continuous: ContinuousConfig | None = None,
    *,
    running: bool,
    lists: StoredLists | None = None,
) -> list[dg.SensorDefinition]:
    """All sensors of a source: they keep its tail alive, start its consumers, and register bookmarks and tables."""
    sensors = build_tail_sensors(source, keys, running=running)
    tables, patterns = consumers.of(source), consumers.patterns_of(source)
    if tables and continuous is not None:
        sensors.append(build_continuous_sensor(source, running=running, keys=keys))
    elif tables:
        sensors.append(
            build_backlog_sensor(
                source,
                tables,
                running=running,
                keys=keys,
                code=consumers.code,
                uncaptured=find_uncaptured(tables, options),
            )
        )
    if patterns and options.table_lists:
        stored = lists or StoredLists(Path(options.table_lists))
        sensors.append(build_tables_sensor(source, patterns, tables, stored, running=running))
    return sensors


def _find_consumers(consumers: ConsumerDefinitions | ModuleType | Iterable[object]) -> ConsumerDefinitions:
    if isinstance(consumers, ConsumerDefinitions):
        return consumers
    return find_definitions(consumers) if isinstance(consumers, ModuleType) else collect_definitions(consumers)
