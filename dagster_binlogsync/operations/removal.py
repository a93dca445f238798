"""The job `remove_<source>`: deletes what is stored for a consumer that the definitions no longer have, or a source.

Dagster's own records (runs, materializations) stay; the UI deletes those of an asset ("Wipe materializations").
"""

import dagster as dg
from pydantic import Field

from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import BinlogSyncError, ConfigError
from dagster_binlogsync.failures import build_failure
from dagster_binlogsync.keys import TableName, consume_job_name, safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.replay.source import RESOURCES, ReplaySource
from dagster_binlogsync.run_assets import find_run_assets
from dagster_binlogsync.run_status import UNFINISHED
from dagster_binlogsync.tables import CLIENT_ID
from dagster_binlogsync.tags import CONTINUOUS_TAG, SOURCE_TAG


class RemoveConfig(dg.Config):
    """What to remove."""

    table: str = Field(default="", description='"database.table" of a consumer that the definitions no longer have.')
    whole_source: str = Field(
        default="", description="Instead of a table: the name of the source, to delete its stream and all of its state."
    )
    drop: bool = Field(
        default=False, description="Also delete progress, and the tables of mirrors. Otherwise both are kept."
    )
    client_id: str = Field(default=CLIENT_ID, description="Client id of the consumer of the table.")


def build_remove_job(source: ReplaySource) -> dg.JobDefinition:
    """The job `remove_<source>`. It refuses consumers of the definitions, and a source that runs are working on."""
    name = safe_part(source.name)

    @dg.op(name=f"remove_from_{name}", required_resource_keys=source.keys.require(RESOURCES))
    def _remove(context: dg.OpExecutionContext, config: RemoveConfig) -> None:
        try:
            for line in _delete(context, config, source):
                context.log.info(f"deleted {line}")
        except BinlogSyncError as error:
            raise build_failure(error, {}) from None

    return build_job(
        _remove, f"remove_{name}", f"Deletes what is stored for a removed consumer of {source.name}, or for the source."
    )


def _delete(context: dg.OpExecutionContext, config: RemoveConfig, source: ReplaySource) -> list[str]:
    from binlogsync.removal import remove_source, remove_table

    resources = source.keys.find(context)
    if bool(config.table) == bool(config.whole_source):
        raise ConfigError("set either table or whole_source")
    if config.table:
        table, asset = source.find(config.table)
        if asset is not None and asset.consumer.client_id == config.client_id:
            raise ConfigError(
                f"{table} has a consumer; remove it from the definitions, and reload them, or it would start again"
            )
        if asset is None:  # otherwise it is the consumer of another client, which may run
            check_table_idle(context.instance, table)
        key = ProgressKey(config.client_id, source.name, table.database, table.table)
        with resources.jetstream.reader(source.name) as reader:
            return remove_table(
                resources.jetstream.options(), reader, resources.warehouse.file(), key, drop=config.drop
            )
    if config.whole_source != source.name:
        raise ConfigError(f"whole_source is {config.whole_source!r}; repeat the name of the source, {source.name}")
    check_idle(context.instance, source)
    with resources.positions.store() as positions:
        return remove_source(
            resources.jetstream.options(), positions, resources.warehouse.file(), source.name,
            owner=f"run {context.run_id}", drop=config.drop,
        )  # fmt: skip


def check_idle(instance: dg.DagsterInstance, source: ReplaySource) -> None:
    """Raise ConfigError if a tail, consumer or replay run of the source has not ended."""
    jobs = {consume_job_name(source.name), f"replay_{safe_part(source.name)}"}
    keys = {key for table in source.tables for key in (table.key, table.name.replay_key)}
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        is_named = source.name in (run.tags.get(SOURCE_TAG), run.tags.get(CONTINUOUS_TAG)) or run.job_name in jobs
        if is_named or any(key in keys or _is_of(key, source.name) for key in find_run_assets(instance, run)):
            raise _active(run)


def check_table_idle(instance: dg.DagsterInstance, table: TableName) -> None:
    """Raise ConfigError if a run that consumes the table has not ended."""
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if table.consumer_key in find_run_assets(instance, run):
            raise _active(run)


def _is_of(key: dg.AssetKey, source: str) -> bool:
    """Whether it is the default key of a consumer or a replay of the source; the definitions may have none."""
    kind, name = (*key.path, "")[:2]
    return kind in ("tables", "replay") and name == safe_part(source)


def _active(run: dg.DagsterRun) -> ConfigError:
    return ConfigError(
        f"run {run.run_id} of {run.job_name} is active; switch off its sensor, if it has one, and terminate the run"
    )
