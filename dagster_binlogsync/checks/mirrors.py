"""Asset checks of mirrors, for manual or scheduled runs: `equals_source` and `fresh`.

`equals_source` reads the whole table in MySQL, so the job `verify_<source>` runs it, not the consumer run. It compares
both sides at the same binlog position (binlogsync/mirror/verify.py), so it is exact while the table changes. A
difference is an error; a mirror that does not reach the position in time is a warning. With the configuration
`repair: true` the rows that differ are read again, and replaced in the mirror (binlogsync/mirror/repair.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from binlogsync.consume.gaps import open_gaps
from binlogsync.consume.progress import TableProgress
from binlogsync.errors import ConsumeError
from binlogsync.escaping import markdown
from dagster_binlogsync.checks.check_step import build_check_steps, mirrors_of
from dagster_binlogsync.consume.checks import MAX_AGE_S, check_freshness, no_gap, oldest_unconsumed_s, report_check
from dagster_binlogsync.keys import safe_part
from dagster_binlogsync.resource_keys import ResourceKeys, SourceResources
from dagster_binlogsync.table_asset import TableAsset

if TYPE_CHECKING:
    from binlogsync.mirror.repair import Repair
    from binlogsync.mirror.verify import Verification

TIMEOUT_S = 90.0
_MAX_SHOWN = 20


def build_mirror_checks(
    source: str, tables: Sequence[TableAsset], keys: ResourceKeys
) -> list[dg.AssetChecksDefinition]:
    """The checks `equals_source` and `fresh` of the mirrors of a source; none if it has no mirrors."""
    mirrors = mirrors_of(tables)
    return [
        *build_check_steps(
            "equals_source",
            source,
            mirrors,
            lambda name: (
                f"The mirror has exactly the rows of {name.markdown}. Reads the whole table in MySQL, so it is only "
                f"evaluated when you execute it, or the job verify_{safe_part(source)}."
            ),
            check_equality,
            keys.require(("mysql", "warehouse", "jetstream")),
            keys,
            {
                "repair": dg.Field(
                    bool,
                    default_value=False,
                    description="Read the rows that differ again, replace them in the mirror, and compare again.",
                )
            },
        ),
        *build_check_steps(
            "fresh",
            source,
            mirrors,
            lambda name: (
                f"No change of {name.markdown} has waited in the stream for over {MAX_AGE_S / 60:.0f} minutes."
            ),
            lambda _, resources, table: check_stored_progress(resources, table),
            keys.require(("warehouse", "jetstream")),
            keys,
        ),
    ]


def build_verify_job(source: str, checks: Sequence[dg.AssetChecksDefinition]) -> Any:
    """The job `verify_<source>`, which runs only these checks."""
    return dg.define_asset_job(
        f"verify_{safe_part(source)}",
        selection=dg.AssetSelection.checks(*checks),
        executor_def=dg.in_process_executor,
        description=f"Compares the mirrors of {source} with their tables, row by row. Reads the whole tables in MySQL.",
    )


def check_equality(
    context: dg.AssetCheckExecutionContext, resources: SourceResources, table: TableAsset
) -> dg.AssetCheckResult:
    """Compare the mirror with its table, and repair it if the run is configured to. Raises BinlogSyncError."""
    from binlogsync.mirror.repair import Repairer
    from binlogsync.mirror.verify import Verifier, VerifyOptions

    name, key = table.name, table.consumer.progress_key
    options = VerifyOptions(client_id=table.consumer.client_id, timeout_s=TIMEOUT_S)
    try:
        with resources.jetstream.reader(name.source) as reader:
            file = resources.warehouse.file()
            gaps = open_gaps(TableProgress(file), key)
            verifier, repair = Verifier(reader, resources.mysql.config(name.source), file, options), None
            if context.op_execution_context.op_config["repair"]:
                repair = Repairer(verifier, f"Dagster run {context.run.run_id}").repair(name.database, name.table)
                verification = repair.after
            else:
                verification = verifier.verify(name.database, name.table)
            if gaps and verification.is_equal:
                report_check(context.instance, no_gap(table.key, open_gaps(TableProgress(file), key)))
            return build_result(verification, repair)
    except ConsumeError as error:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=markdown(str(error)))


def check_stored_progress(resources: SourceResources, table: TableAsset) -> dg.AssetCheckResult:
    """Whether a change waits for the mirror, by its progress in the warehouse. Raises BinlogSyncError."""
    key = table.consumer.progress_key
    progress = TableProgress(resources.warehouse.file()).load(key)
    with resources.jetstream.reader(table.name.source) as reader:
        return check_freshness(oldest_unconsumed_s(reader, key, progress.sequence))


def build_result(verification: "Verification", repair: "Repair | None" = None) -> dg.AssetCheckResult:
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


def _describe_repair(repair: "Repair") -> dict[str, dg.MetadataValue]:
    """What the repair changed, as metadata."""
    if repair.rebuilt:
        return {"repair": dg.MetadataValue.text(repair.rebuilt)}
    counts = ("keys", "rows_read", "inserted", "updated", "deleted")
    return {
        **{f"repair_{name}": dg.MetadataValue.int(repair.count(name)) for name in counts},
        "repair": dg.MetadataValue.json([str(record) for record in repair.records[:_MAX_SHOWN]]),
    }
