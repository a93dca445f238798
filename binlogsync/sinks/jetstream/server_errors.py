"""What nats-server says against storing, in words that help."""

from __future__ import annotations

import nats.js.errors

from binlogsync.errors import SinkError


def refused_error(place: str, stream: str, error: nats.js.errors.APIError) -> SinkError:
    """The server at `place` refuses to serve the stream."""
    hint = _HINTS.get(error.err_code or 0, f"look at its log and at: nats stream info {stream}")
    return SinkError(
        f"NATS at {place} refuses to serve stream {stream}: {error.description} (code {error.err_code}); {hint}"
    )


def retries_exhausted_error(place: str, stream: str, error: Exception) -> SinkError:
    """It was tried for long enough."""
    if isinstance(error, nats.js.errors.APIError):
        return refused_error(place, stream, error)
    if isinstance(error, SinkError):
        return error
    return SinkError(f"NATS at {place} does not store changes: {error!r}; look at its log")


_RESTART = (
    "when there is space again, restart nats-server, which otherwise keeps a write error of a full disk and refuses on"
)
_HINTS = {
    10023: f"the server is short of disk or memory for JetStream: free space, or raise max_file_store; {_RESTART}",
    10047: f"the server is short of disk or memory for JetStream: free space, or raise max_file_store; {_RESTART}",
    10077: f"the stream has reached its limit, or the disk is full: raise max_bytes, or free space; {_RESTART}",
    10026: "the stream or the account has as many consumers as it may: remove durables of clients and tables that are "
    "gone (binlogsync doctor counts them), or raise max_consumers",
    10027: "the account has as many streams as it may: raise its max_streams (a source needs the stream, CDC_<SOURCE>_"
    "schemas, and when first used _large, _progress and _clients)",
    10028: "the account has reserved as much storage as it may: lower BINLOGSYNC_STREAM_MAX_BYTES, or raise its limit",
    10113: "the account requires a size for each stream: set BINLOGSYNC_STREAM_MAX_BYTES",
    10039: "JetStream is not enabled for this account: start nats-server with -js, or enable it in its configuration",
    10076: "JetStream is not enabled: start nats-server with -js",
    10035: "JetStream is not enabled for this account: enable it in the server's configuration",
    10059: "the stream was deleted while the tail ran: start it again, and it makes the stream anew",
    10074: "the cluster has too few servers for so many replicas: lower `replicas`, or add servers",
}
