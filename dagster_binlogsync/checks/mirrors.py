"""Asset checks of mirrors, for manual or scheduled runs: `equals_source` and `fresh`.

`equals_source` reads the whole table in MySQL, so the job `verify_<source>` runs it, not the consumer run. It compares
both sides at the same binlog position (binlogsync/mirror/verify.py), so it is exact while the table changes. A
difference is an error; a mirror that does not reach the position in time is a warning. With the configuration
`repair: true` the rows that differ are read again, and replaced in the mirror (binlogsync/mirror/repair.py).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from binlogsync.consume.gaps import open_gaps
from binlogsync.consume.progress import ProgressKey, TableProgress
from binlogsync.errors import BinlogSyncError, ConsumeError
from binlogsync.escaping import markdown
from binlogsync.mirror.repair import Repair, Repairer
from binlogsync.mirror.verify import Verification, Verifier, VerifyOptions
from binlogsync.nats.reader import StreamReader
from dagster_binlogsync.consume.checks import no_gap, report_check
from dagster_binlogsync.failures import build_failure
from dagster_binlogsync.keys import safe_part
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.table_asset import TableAsset

TIMEOUT_S = 90.0
MAX_AGE_S = 300.0
_MAX_SHOWN = 20


def build_mirror_checks(tables: Sequence[TableAsset], keys: ResourceKeys) -> list[dg.AssetChecksDefinition]:
    """The checks `equals_source` and `fresh` of each mirror."""
    mirrors = [table for table in tables if table.is_mirror]
    return [check for table in mirrors for check in (_build_equals_source(table, keys), _build_fresh(table, keys))]


def build_verify_job(source: str, checks: Sequence[dg.AssetChecksDefinition]) -> Any:
    """The job `verify_<source>`, which runs only these checks."""
    return dg.define_asset_job(
        f"verify_{safe_part(source)}",
        selection=dg.AssetSelection.checks(*checks),
        executor_def=dg.in_process_executor,
        description=f"Compares the mirrors of {source} with their tables, row by row. Reads the whole tables in MySQL.",
    )


def _build_equals_source(table: TableAsset, keys: ResourceKeys) -> dg.AssetChecksDefinition:
    name = table.name

    @dg.asset_check(
        asset=table.key,
        name="equals_source",
        required_resource_keys=keys.require(("mysql", "warehouse", "jetstream")),
        description=f"The mirror has exactly the rows of {name.markdown}. Reads the whole table in MySQL.",
        config_schema={
            "repair": dg.Field(
                bool,
                default_value=False,
                description="Read the rows that differ again, replace them in the mirror, and compare again.",
            )
        },
    )
    def _check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        resources = keys.find(context)
        mysql = resources.mysql.config(name.source)
        options = VerifyOptions(client_id=table.consumer.client_id, timeout_s=TIMEOUT_S)
        try:
            with resources.jetstream.reader(name.source) as reader:
                file, key = resources.warehouse.file(), table.consumer.progress_key
                gaps = open_gaps(TableProgress(file), key)
                verifier, repair = Verifier(reader, mysql, file, options), None
                if context.op_execution_context.op_config["repair"]:
                    repair = Repairer(verifier, f"Dagster run {context.run.run_id}").repair(name.database, name.table)
                    verification = repair.after
                else:
                    verification = verifier.verify(name.database, name.table)
                if gaps and verification.is_equal:
                    report_check(context.instance, no_gap(table.key, open_gaps(TableProgress(file), key)))
                return build_result(verification, repair)
        except ConsumeError as error:
            return dg.AssetCheckResult(
                passed=False, severity=dg.AssetCheckSeverity.WARN, description=markdown(str(error))
            )
        except BinlogSyncError as error:
            raise build_failure(error, {}) from error

    return _check


def build_result(verification: Verification, repair: Repair | None = None) -> dg.AssetCheckResult:
    """The check result of a verification, which is the last one of the repair if there was one."""
    shown: dict[str, dg.MetadataValue] = {
        "position": dg.MetadataValue.text(str(verification.at)),
        "seconds": dg.MetadataValue.float(round(verification.seconds, 2)),
    }
    if verification.rows is not None:
        shown |= {
            "mysql_rows": dg.MetadataValue.int(verification.rows.there),
            "mirror_rows": dg.MetadataValue.int(verification.rows.here),
            "chunks": dg.MetadataValue.int(verification.rows.chunks),
            "chunks_that_differ": dg.MetadataValue.int(len(verification.rows.differing)),
        }
        if verification.rows.differing:
            shown["differences"] = dg.MetadataValue.json(
                [str(chunk) for chunk in verification.rows.differing[:_MAX_SHOWN]]
            )
    if repair is not None and (repair.records or repair.rebuilt):
        shown |= _describe_repair(repair)
    return dg.AssetCheckResult(
        passed=verification.is_equal,
        severity=dg.AssetCheckSeverity.ERROR,
        description=markdown(str(verification if repair is None else repair)),
        metadata=shown,
    )


def _describe_repair(repair: Repair) -> dict[str, dg.MetadataValue]:
    """What the repair changed, as metadata."""
    if repair.rebuilt:
        return {"repair": dg.MetadataValue.text(repair.rebuilt)}
    counts = ("keys", "rows_read", "inserted", "updated", "deleted")
    return {
        **{f"repair_{name}": dg.MetadataValue.int(repair.count(name)) for name in counts},
        "repair": dg.MetadataValue.json([str(record) for record in repair.records[:_MAX_SHOWN]]),
    }


def _build_fresh(table: TableAsset, keys: ResourceKeys) -> dg.AssetChecksDefinition:
    name = table.name

    @dg.asset_check(
        asset=table.key,
        name="fresh",
        required_resource_keys=keys.require(("warehouse", "jetstream")),
        description=f"No change of {name.markdown} has waited in the stream for over {MAX_AGE_S / 60:.0f} minutes.",
    )
    def _check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        key, resources = table.consumer.progress_key, keys.find(context)
        progress = TableProgress(resources.warehouse.file()).load(key)
        with resources.jetstream.reader(name.source) as reader:
            return check_freshness(oldest_unconsumed_s(reader, key, progress.sequence))

    return _check


def oldest_unconsumed_s(reader: StreamReader, key: ProgressKey, sequence: int) -> float | None:
    """Seconds since the commit of the first change after the stream sequence. None if there is no such change."""
    waiting = reader.changes_from(key.database, key.table, sequence + 1)
    if not waiting:
        return None
    committed: datetime = waiting[0].batch.data.column("ts_us")[0].as_py()
    return (datetime.now(UTC) - committed).total_seconds()


def check_freshness(waited_s: float | None) -> dg.AssetCheckResult:
    """Passes if no change has waited longer than MAX_AGE_S."""
    if waited_s is None:
        return dg.AssetCheckResult(
            passed=True, description="No change is waiting in the stream.", metadata={"waited_s": 0.0}
        )
    return dg.AssetCheckResult(
        passed=waited_s <= MAX_AGE_S,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"A change was committed {waited_s:.0f} s ago and is not in the mirror yet.",
        metadata={"waited_s": round(waited_s, 1)},
    )
