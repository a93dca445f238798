"""The asset check `stream_intact`: the stream has the required settings, and only the tail publishes into it."""

from typing import TYPE_CHECKING

import dagster as dg

from dagster_binlogsync.keys import binlog_key
from dagster_binlogsync.resource_keys import ResourceKeys

if TYPE_CHECKING:
    from binlogsync.sinks.jetstream import JetStreamOptions


def build_stream_checks(source: str, keys: ResourceKeys) -> list[dg.AssetChecksDefinition]:
    """The check `stream_intact` of the source."""

    @dg.asset_check(
        asset=binlog_key(source),
        name="stream_intact",
        required_resource_keys=keys.require(("jetstream",)),
        description="The stream has the settings that the tail requires, and only the tail publishes into it.",
    )
    def _intact(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return stream_intact(keys.find(context).jetstream.options(), source)

    return [_intact]


def stream_intact(options: "JetStreamOptions", source: str) -> dg.AssetCheckResult:
    """Fails with the incorrect setting, or with the sequences of messages from other publishers."""
    from binlogsync.nats.foreign_messages import describe_foreign
    from binlogsync.nats.stream_status import read_stream_status

    status = read_stream_status(options, options.stream_spec(source))
    return dg.AssetCheckResult(
        passed=not status.problem and not status.foreign,
        severity=dg.AssetCheckSeverity.ERROR if status.problem else dg.AssetCheckSeverity.WARN,
        description=status.problem or describe_foreign(status.foreign, source),
        metadata={"stream": status.name, "messages": status.messages or 0, "foreign_messages": len(status.foreign)},
    )
