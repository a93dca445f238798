"""Turns errors of nats-server into SinkErrors with advice."""

from __future__ import annotations

import nats.js.errors

from binlogsync.errors import SinkError


def refused_error(address: str, stream: str, error: nats.js.errors.APIError) -> SinkError:
    """The error for a request that the server at `address` rejected."""
    hint = _HINTS.get(error.err_code or 0, f"check its log and: nats stream info {stream}")
    return SinkError(
        f"NATS at {address} refuses to serve stream {stream}: {error.description} (code {error.err_code}); {hint}"
    )


def retries_exhausted_error(address: str, stream: str, error: Exception) -> SinkError:
    """The error after the last retry."""
    if isinstance(error, nats.js.errors.APIError):
        return refused_error(address, stream, error)
    if isinstance(error, SinkError):
        return error
    return SinkError(f"NATS at {address} does not store changes: {error!r}; check its log")


_RESTART = "then restart nats-server, because after a write error on a full disk it rejects all further writes"
_HINTS = {
    10023: f"the server is short of disk or memory for JetStream: free space, or raise max_file_store; {_RESTART}",
    10047: f"the server is short of disk or memory for JetStream: free space, or raise max_file_store; {_RESTART}",
    10077: f"the stream has reached its limit, or the disk is full: raise max_bytes, or free space; {_RESTART}",
    # A batch that the server gave up: the reason, often a full disk, is in the server's log only.
    10176: f"the server could not store the messages: see its log, free disk space if that is full, {_RESTART}",
    10026: "the stream or the account has reached its limit of consumers: delete durables of clients and tables that "
    "no longer exist (binlogsync doctor counts them), or raise max_consumers",
    10027: "the account has reached its limit of streams: raise its max_streams (a source needs the stream, "
    "CDC_<SOURCE>_schemas, and at first use _large, _progress and _clients)",
    10028: "the account has reached its limit of reserved storage: lower BINLOGSYNC_STREAM_MAX_BYTES, or raise that",
    10113: "the account requires a size for each stream: set BINLOGSYNC_STREAM_MAX_BYTES",
    10039: "JetStream is not enabled for this account: start nats-server with -js, or enable it in its configuration",
    10076: "JetStream is not enabled: start nats-server with -js",
    10035: "JetStream is not enabled for this account: enable it in the server's configuration",
    10059: "the stream was deleted while the tail ran: start the tail again, which recreates the stream",
    10074: "the cluster has too few servers for so many replicas: lower `replicas`, or add servers",
}
