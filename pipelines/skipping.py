"""The job `skip_change`: a person skips the one change that a table is held up by, and says why.

The change id is on the page of the table and of the failed run. Progress moves over that very change and no other, with
the record of it in one transaction; the audit log, where there is one, gets a copy, and the table's page shows it.
"""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from binlogsync.consume.progress import DuckProgress
from binlogsync.consume.skips import Skip, skip_change
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.sinks.audit_skips import record_skip
from pipelines.jobs import job_of
from pipelines.shown import skip_metadata
from pipelines.tables import TableAsset
from resources.audit import AuditLog
from resources.jetstream import JetStream
from resources.warehouse import Warehouse


class SkipConfig(dg.Config):
    """Which change, and why."""

    table: str = Field(description='The table that is held up, "database.table".')
    change_id: str = Field(description="Id of the change, as the table's page and the failed run show it.")
    reason: str = Field(description="Why it may be left out; kept for good.")
    by: str = Field(default="", description="Who says so; kept as well, with the run's id.")
    source: str = Field(default="", description="Source of the table; not needed where only one has it.")


def skip_job(tables: Sequence[TableAsset]) -> dg.JobDefinition:
    """The job, for the consumers of this deployment."""

    @dg.op(
        name="skip_one_change",
        required_resource_keys={"jetstream", "warehouse", "audit"},
        description="Moves a consumer over the one change that holds it up.",
    )
    def _skip(context: dg.OpExecutionContext, config: SkipConfig) -> None:
        try:
            table = find_table(tables, config)
            skip = _do(context, config, table)
        except BinlogSyncError as error:
            raise dg.Failure(description=f"{type(error).__name__}: {error}", allow_retries=False) from error
        context.log_event(dg.AssetObservation(table.key, metadata=skip_metadata(skip)))
        context.log.info(f"{table.name}: change {skip.change_id} ({skip.position}) is skipped: {skip.reason}")

    return job_of(
        _skip,
        "skip_change",
        "Skips the one change that holds up a table, for a reason that is kept.",
    )


def find_table(tables: Sequence[TableAsset], config: SkipConfig) -> TableAsset:
    """The consumer of that table; raises ConfigError, naming those there are."""
    of_source = [table for table in tables if not config.source or table.name.source == config.source]
    found = [table for table in of_source if str(table.name) == config.table]
    if len(found) == 1 and not found[0].is_mirror:
        return found[0]
    if found and len(found) == 1:
        raise ConfigError(
            f"{config.table} is a mirror, and a mirror without a change would not equal its table; report the error "
            "that holds it up, or fill the mirror anew"
        )
    names = ", ".join(sorted(f"{table.name} of {table.name.source}" for table in tables if not table.is_mirror))
    what = "more than one source has" if found else "no consumer of"
    raise ConfigError(f"{what} {config.table!r}; there are {names or 'none with a handler'}")


def _do(context: dg.OpExecutionContext, config: SkipConfig, table: TableAsset) -> Skip:
    stream: JetStream = context.resources.jetstream
    warehouse: Warehouse = context.resources.warehouse
    audit: AuditLog = context.resources.audit
    by = f"{config.by} (run {context.run_id})" if config.by else f"run {context.run_id}"
    with stream.reader(table.name.source) as reader:
        store = DuckProgress(warehouse.file())
        skip = skip_change(reader, table.consumption.progress_key, store, config.change_id, config.reason, by)
    if (path := audit.file()) is not None:
        record_skip(path, skip)
    return skip
