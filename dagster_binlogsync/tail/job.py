"""The tail of one source as a job of one op: its configuration and its definition. run.py is what the op does.

There is no RetryPolicy: with one, Terminate would restart the op inside the run that is being cancelled.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from binlogsync.codec.subjects import check_source
from binlogsync.collection import without_collection
from binlogsync.filters import TableFilter
from binlogsync.settings.model import DagsterSection, TailSection
from binlogsync.tail.snapshot_policy import SnapshotPolicy
from dagster_binlogsync.keys import safe_part, tail_job_name
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.setting_field import setting_field
from dagster_binlogsync.stop_flag import stop_on_signals
from dagster_binlogsync.tags import SOURCE_TAG

if TYPE_CHECKING:
    from binlogsync.tail.options import TailOptions


class TailConfig(dg.Config):
    """Options of one shift of the tail."""

    shift_s: float = setting_field(DagsterSection, "shift_s", gt=0)
    report_s: float = setting_field(DagsterSection, "report_s", gt=0)
    flush: Literal["interval", "eager"] = setting_field(TailSection, "flush")
    flush_interval_s: float = setting_field(TailSection, "flush_interval_s", gt=0)
    flush_rows: int = setting_field(TailSection, "flush_rows", gt=0)
    flush_bytes: int = Field(default=64 << 20, gt=0, description="Bytes of changes that trigger a flush.")
    include: list[str] = setting_field(TailSection, "include", default=[])
    exclude: list[str] = setting_field(TailSection, "exclude", default=[])
    start: str = setting_field(TailSection, "start")
    idle_checkpoint_s: float = Field(
        default=60.0, gt=0, description="Seconds between checkpoints while there are no changes."
    )
    retry_s: float = Field(
        default=60.0, gt=0, description="Seconds to retry a lost connection to MySQL before the run fails."
    )
    accept_gap: str = Field(
        default="",
        description="Only for a single run from the Launchpad: the reason for accepting the loss of purged changes.",
    )
    gap_start: str = Field(
        default="oldest", description="Where to start after the accepted gap, in the form of `start`."
    )
    table_lists: str = setting_field(DagsterSection, "table_lists")
    snapshot: SnapshotPolicy = setting_field(TailSection, "snapshot")
    snapshot_keyless_rows: int = setting_field(TailSection, "snapshot_keyless_rows", ge=0)
    bookmark_minutes: float = setting_field(TailSection, "bookmark_minutes", gt=0)
    bookmark_keep: int = setting_field(TailSection, "bookmark_keep", gt=0)
    bookmark_keep_days: float = setting_field(TailSection, "bookmark_keep_days", gt=0)

    def build_filter(self) -> Callable[[str, str], bool]:
        """Whether the tail captures a (database, table), on a server that compares names exactly or in lower case."""
        tables = TableFilter(tuple(self.include), tuple(self.exclude))
        lower = tables.folded(str.lower)
        return lambda database, table: (
            tables.captures(database, table) or lower.captures(database.lower(), table.lower())
        )

    def options(self, source: str) -> "TailOptions":
        """The options as the library takes them."""
        from binlogsync.tail.options import TailOptions

        return TailOptions(
            source=source,
            flush=self.flush,
            flush_interval_s=self.flush_interval_s,
            flush_rows=self.flush_rows,
            flush_bytes=self.flush_bytes,
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            start=self.start,
            snapshot=self.snapshot,
            snapshot_keyless_rows=self.snapshot_keyless_rows,
            idle_checkpoint_s=self.idle_checkpoint_s,
            retry_s=self.retry_s,
            accept_gap=self.accept_gap,
            gap_start=self.gap_start,
            bookmark_s=self.bookmark_minutes * 60,
            bookmark_keep=self.bookmark_keep,
            bookmark_keep_s=self.bookmark_keep_days * 86400,
        )


def build_tail_job(source: str, config: TailConfig | None = None, keys: ResourceKeys | None = None) -> dg.JobDefinition:
    """The job `tail_<source>`. Requires the resources mysql, jetstream, audit and positions of `keys`."""
    check_source(source)
    keys = keys or ResourceKeys()

    @dg.op(
        name=f"tail_{safe_part(source)}_binlog",
        required_resource_keys=keys.require(("mysql", "jetstream", "audit", "positions")),
    )
    def _tail(context: dg.OpExecutionContext, config: TailConfig) -> None:
        with stop_on_signals() as stop:  # a signal during the import stops the tail as later signals do
            with without_collection():
                from dagster_binlogsync.tail.run import run_tail

            run_tail(context, config, source, keys.find(context), stop)

    return build_job(
        _tail,
        tail_job_name(source),
        f"Tails the binary log of {source} and publishes its changes to JetStream and the audit log.",
        tags={SOURCE_TAG: source},
        config=dg.RunConfig(ops={_tail.name: config or TailConfig()}),
    )
