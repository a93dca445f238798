"""The job `acknowledge_gap`: a person accepts that a handler missed changes, and the reason is recorded."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from binlogsync.consume.gaps import acknowledge_gaps, open_gaps
from binlogsync.consume.progress import DuckProgress
from binlogsync.errors import BinlogSyncError, ConfigError
from pipelines.gaps import no_gap, report_check
from pipelines.jobs import job_of
from pipelines.tables import TableAsset


class AcknowledgeConfig(dg.Config):
    """Whose gap, and why it is accepted."""

    table: str = Field(description='The table whose check no_gap failed, "database.table".')
    reason: str = Field(description="Why the gap is accepted, or how it was made good; recorded for good.")
    by: str = Field(default="", description="Who accepts it; recorded too, with the run's id.")
    source: str = Field(default="", description="Source of the table; not needed where only one has it.")


def acknowledge_job(tables: Sequence[TableAsset]) -> dg.JobDefinition:
    """The job, for the consumers of this deployment."""

    @dg.op(
        name="acknowledge_gaps_of_table",
        required_resource_keys={"warehouse"},
        description="Resolves the open gaps of one consumer, with a reason.",
    )
    def _acknowledge(context: dg.OpExecutionContext, config: AcknowledgeConfig) -> None:
        by = f"{config.by} (run {context.run_id})" if config.by else f"run {context.run_id}"
        try:
            table = _find(tables, config)
            key = table.consumption.progress_key
            store = DuckProgress(context.resources.warehouse.file())
            accepted = acknowledge_gaps(store, key, config.reason, by)
            left = open_gaps(store, key)
        except BinlogSyncError as error:
            raise dg.Failure(description=f"{type(error).__name__}: {error}", allow_retries=False) from error
        for gap in accepted:
            context.log.info(f"{table.name}: acknowledged: {gap} ({config.reason})")
        report_check(context.instance, no_gap(table.key, left))

    return job_of(
        _acknowledge, "acknowledge_gap", "Accepts that a handler missed changes, for a reason that is recorded."
    )


def _find(tables: Sequence[TableAsset], config: AcknowledgeConfig) -> TableAsset:
    found = [table for table in tables if str(table.name) == config.table and config.source in ("", table.name.source)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(f"{table.name} of {table.name.source}" for table in tables))
    what = "more than one source has" if found else "no consumer of"
    raise ConfigError(f"{what} {config.table!r}; there are {names or 'none'}")
