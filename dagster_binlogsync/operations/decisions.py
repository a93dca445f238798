"""Jobs in which an operator decides about the consumer of one table: `skip_change_<source>`,
`acknowledge_gap_<source>` and `accept_columns_<source>`.

Each is a job of one op, for the Launchpad. The operator names the table and the reason; the reason is stored with the
name of the operator and the id of the run. The change id is shown on the page of the table and of
the failed run.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import dagster as dg
from pydantic import Field

from binlogsync.consume.gaps import acknowledge_gaps, open_gaps
from binlogsync.consume.progress import TableProgress
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.mirror.contract import accept_columns
from dagster_binlogsync.consume.checks import no_gap, report_check
from dagster_binlogsync.consume.metadata import skip_metadata
from dagster_binlogsync.failures import build_failure
from dagster_binlogsync.keys import safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.audit import AuditLog
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.warehouse import Warehouse
from dagster_binlogsync.table_asset import TableAsset


class DecisionConfig(dg.Config):
    """The table, the reason, and who decided."""

    table: str = Field(description='The table of the consumer, "database.table".')
    reason: str = Field(description="The reason for the decision. It is stored permanently.")
    by: str = Field(default="", description="Name of the operator. It is stored with the id of this run.")

    def operator(self, run_id: str) -> str:
        """The operator and the run, as they are stored."""
        return f"{self.by} (run {run_id})" if self.by else f"run {run_id}"


class SkipConfig(DecisionConfig):
    """Which change to skip, and why."""

    change_id: str = Field(description="Id of the change, as shown on the page of the table and of the failed run.")


class AcknowledgeConfig(DecisionConfig):
    """Which consumer's gaps to acknowledge, and why."""


class AcceptConfig(DecisionConfig):
    """Which columns of which mirror to accept, and why."""

    columns_id: str = Field(description="Id of the new columns, as shown in the error of the mirror.")


C = TypeVar("C", bound=DecisionConfig)


def build_skip_job(source: str, tables: Sequence[TableAsset], keys: ResourceKeys) -> dg.JobDefinition:
    """The job `skip_change_<source>`: progress moves past exactly one change, and the skip is recorded
    in the same transaction.

    The audit log, if there is one, gets a copy of the record.
    """

    def skip(context: dg.OpExecutionContext, config: SkipConfig, table: TableAsset) -> None:
        from binlogsync.consume.skips import skip_change
        from binlogsync.sinks.audit_records import record_skip

        resources = keys.find(context)
        stream: JetStream = resources.jetstream
        warehouse: Warehouse = resources.warehouse
        audit: AuditLog = resources.audit
        key, by = table.consumer.progress_key, config.operator(context.run_id)
        with stream.reader(table.name.source) as reader:
            skipped = skip_change(reader, key, TableProgress(warehouse.file()), config.change_id, config.reason, by)
        if (path := audit.file()) is not None:
            record_skip(path, skipped)
        context.log_event(dg.AssetObservation(table.key, metadata=skip_metadata(skipped)))
        context.log.info(f"{table.name}: skipped change {skipped.change_id} ({skipped.position}): {skipped.reason}")

    return _build_decision_job(
        _names(source, "skip_change", "skip_one_change"),
        SkipConfig,
        skip,
        keys.require(("jetstream", "warehouse", "audit")),
        partial(find_handler, tables),
        "Skips the change that blocks a table, and records the reason.",
    )


def build_acknowledge_job(source: str, tables: Sequence[TableAsset], keys: ResourceKeys) -> dg.JobDefinition:
    """The job `acknowledge_gap_<source>`: closes the open gaps of one consumer."""

    def acknowledge(context: dg.OpExecutionContext, config: AcknowledgeConfig, table: TableAsset) -> None:
        key, store = table.consumer.progress_key, TableProgress(keys.find(context).warehouse.file())
        for gap in acknowledge_gaps(store, key, config.reason, config.operator(context.run_id)):
            context.log.info(f"{table.name}: acknowledged: {gap} ({config.reason})")
        report_check(context.instance, no_gap(table.key, open_gaps(store, key)))

    return _build_decision_job(
        _names(source, "acknowledge_gap", "acknowledge_gaps"),
        AcknowledgeConfig,
        acknowledge,
        keys.require(("warehouse",)),
        partial(find_table, tables),
        "Acknowledges that a handler missed changes, records the reason, and closes the gap.",
    )


def build_accept_job(source: str, tables: Sequence[TableAsset], keys: ResourceKeys) -> dg.JobDefinition:
    """The job `accept_columns_<source>`: accepts the new columns of a mirror whose columns are frozen."""

    def accept(context: dg.OpExecutionContext, config: AcceptConfig, table: TableAsset) -> None:
        accept_columns(keys.find(context).warehouse.file(), table.consumer.table, config.columns_id)
        shown = {"columns_accepted": config.columns_id, "reason": config.reason}
        shown["accepted_by"] = config.operator(context.run_id)
        context.log_event(dg.AssetObservation(table.key, metadata=shown))

    return _build_decision_job(
        _names(source, "accept_columns", "accept_new_columns"),
        AcceptConfig,
        accept,
        keys.require(("warehouse",)),
        partial(find_table, tables),
        "Accepts the new columns of a mirror with schema_contract freeze, which its error shows.",
    )


def _names(source: str, job: str, op: str) -> tuple[str, str]:
    """The names of a job and of its op."""
    return f"{job}_{safe_part(source)}", f"{op}_{safe_part(source)}"


def _build_decision_job(
    names: tuple[str, str],
    config_type: type[C],
    decide: Callable[[dg.OpExecutionContext, C, TableAsset], None],
    resource_keys: set[str],
    find: Callable[[C], TableAsset],
    description: str,
) -> dg.JobDefinition:
    """Build the job and op of these names: the op finds the table and applies the decision."""
    job_name, op_name = names

    @dg.op(
        name=op_name,
        config_schema=config_type.to_fields_dict(),
        required_resource_keys=resource_keys,
        description=description,
    )
    def _decide(context: dg.OpExecutionContext) -> None:
        config = config_type(**context.op_config)
        try:
            decide(context, config, find(config))
        except BinlogSyncError as error:
            raise build_failure(error, {}) from error

    return build_job(_decide, job_name, description)


def find_table(tables: Sequence[TableAsset], config: DecisionConfig) -> TableAsset:
    """The consumer of the table. Raises ConfigError, which lists the consumers."""
    for table in tables:
        if str(table.name) == config.table:
            return table
    names = ", ".join(sorted(str(table.name) for table in tables))
    raise ConfigError(f"no consumer of {config.table!r}; consumers: {names or 'none'}")


def find_handler(tables: Sequence[TableAsset], config: DecisionConfig) -> TableAsset:
    """The consumer of the table, which must be a handler. Raises ConfigError."""
    table = find_table(tables, config)
    if table.is_mirror:
        raise ConfigError(
            f"{config.table} is a mirror: without the change it would differ from its table. Report the error that "
            "blocks it, or rebuild the mirror"
        )
    return table
