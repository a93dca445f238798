"""The Definitions of this project: for each source, the tail job and its sensor, the consumers and the backlog sensor.

Loading requires no server and no environment variable. Sensors and the nightly schedule are off by default, so that
opening the UI does not start to tail a production server; BINLOGSYNC_SENSORS=running switches them on, as in the demo.
Options per deployment are in pipelines/sources.py, connections in resources/.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from binlogsync.errors import ConfigError
from binlogsync.modules import code_version, import_within
from pipelines.bookmarks import build_bookmark_job, build_rewind_job
from pipelines.checks import build_binlog_checks, build_row_count_checks
from pipelines.discovery import ConsumerDefinitions, find_definitions
from pipelines.keys import binlog_key, safe_part
from pipelines.maintenance import build_prune_schedule, prune_job
from pipelines.mirror_checks import build_mirror_checks, build_verify_job
from pipelines.operator_jobs import build_acknowledge_job, build_skip_job
from pipelines.replays import ReplaySource, build_replay_asset, build_replay_job
from pipelines.source_checks import build_source_checks
from pipelines.sources import SourceSettings, configured_sources, tail_config
from pipelines.stream_checks import build_stream_checks
from pipelines.tables import TableAsset, build_consumers_asset
from pipelines.tail import TailConfig, build_tail_job, tail_job_name
from resources import environment
from resources.audit import AuditLog
from resources.jetstream import JetStream
from resources.mysql import MySQLSource
from resources.positions import Positions
from resources.warehouse import Warehouse
from sensors.backlog import WatchedTable, build_backlog_sensor
from sensors.bookmarks import build_bookmark_sensor
from sensors.tail import build_tail_sensor


def build_definitions(
    sources: Sequence[SourceSettings], found: ConsumerDefinitions, options: TailConfig, *, running: bool
) -> dg.Definitions:
    """Build the definitions of these sources and tables; `running` switches the sensors on. Raises ConfigError."""
    known = {source.name for source in sources}
    code = code_version()
    for table in found.tables:
        if table.name.source not in known:
            raise ConfigError(
                f"{table.name} is consumed from source {table.name.source!r}, which is not in BINLOGSYNC_SOURCE"
            )
    assets: list[Any] = [*found.assets]
    checks: list[Any] = [*found.checks]
    jobs: list[Any] = [prune_job]
    jobs += [build_skip_job(found.tables), build_acknowledge_job(found.tables)] if found.tables else []
    sensors: list[Any] = []
    for source in sources:
        tables = found.of(source.name)
        assets += [
            build_binlog_spec(source.name),
            *(spec for table in tables for spec in table.upstream),
        ]
        verifying = build_mirror_checks(tables, source.mysql_key)
        checks += [*build_binlog_checks(source.name), *build_row_count_checks(tables, source.mysql_key), *verifying]
        jobs += [build_verify_job(source.name, verifying)] if verifying else []
        checks += [*build_source_checks(source.name, source.mysql_key), *build_stream_checks(source.name)]
        jobs.append(build_tail_job(source.name, options, source.mysql_key))
        alive = dg.AssetCheckKey(binlog_key(source.name), "tail_alive")
        sensors.append(build_tail_sensor(source.name, tail_job_name(source.name), running=running, check=alive))
        if tables:
            assets.append(build_consumers_asset(source.name, source.mysql_key, tables, code))
            job = build_consume_job(source.name, tables)
            jobs += [job, *(build_table_job(table) for table in tables)]
            sensors.append(
                build_backlog_sensor(
                    source.name, job.name, [build_watched_table(table) for table in tables], running=running, code=code
                )
            )
        past = ReplaySource(source.name, source.mysql_key, tables, options)
        assets += [build_replay_asset(past, table) for table in tables]
        jobs += [build_replay_job(past), build_bookmark_job(past), build_rewind_job(past)]
        sensors.append(build_bookmark_sensor(source.name, running=running))
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        sensors=sensors,
        schedules=[build_prune_schedule(running=running)],
        resources=configured_resources(sources),
        executor=dg.in_process_executor,
    )


def configured_resources(sources: Sequence[SourceSettings]) -> Mapping[str, Any]:
    """One resource per system, configured from the environment."""
    return {
        **{source.mysql_key: MySQLSource.from_environment(source.prefix) for source in sources},
        "jetstream": JetStream.from_environment(),
        "positions": Positions.from_environment(),
        "audit": AuditLog.from_environment(),
        "warehouse": Warehouse.from_environment(),
    }


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


def build_consume_job(source: str, tables: Sequence[TableAsset]) -> Any:
    """The job `consume_<source>`: any tables of the source. The backlog sensor requests its runs."""
    return dg.define_asset_job(
        f"consume_{safe_part(source)}",
        selection=select_step(tables),
        executor_def=dg.in_process_executor,
        description=f"Consumes the tables of source {source}: processes the backlog, then waits for new changes.",
    )


def build_table_job(table: TableAsset) -> Any:
    """The job of one table, for manual runs."""
    return dg.define_asset_job(
        table.name.job_name,
        selection=select_step([table]),
        executor_def=dg.in_process_executor,
        description=f"Consumes only {table.name.markdown}: processes the backlog, then waits for new changes.",
    )


def select_step(tables: Sequence[TableAsset]) -> dg.AssetSelection:
    """The assets of the consumers with the checks of the same step; expensive checks have separate jobs."""
    keys = [table.key for table in tables]
    own = [check.key for table in tables for check in table.check_specs]
    return dg.AssetSelection.assets(*keys).without_checks() | dg.AssetSelection.checks(*own)


def build_watched_table(table: TableAsset) -> WatchedTable:
    """The table as the backlog sensor needs it."""
    name = table.name
    checks = tuple(spec.key for spec in table.check_specs)
    return WatchedTable(name.database, name.table, name.consumer_key, table.durable, name.run_tag, checks)


defs = build_definitions(
    configured_sources(),
    find_definitions(import_within(environment.value("BINLOGSYNC_CONSUMERS", "pipelines.consumers"))),
    tail_config(),
    running=environment.switch("BINLOGSYNC_SENSORS", False),
)
