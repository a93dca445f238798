"""Turns errors of nats-server into SinkErrors with advice."""

from __future__ import annotations

import nats.js.errors

from binlogsync.errors import SinkError
from binlogsync.nats import jetstream_error_codes as js


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
    js.JS_INSUFFICIENT_RESOURCES_ERR: f"the server is short of disk or memory for JetStream: free space, or raise "
    f"max_file_store; {_RESTART}",
    js.JS_STORAGE_RESOURCES_EXCEEDED_ERR: f"the server is short of disk or memory for JetStream: free space, or raise "
    f"max_file_store; {_RESTART}",
    js.JS_STREAM_STORE_FAILED: f"the stream has reached its limit, or the disk is full: raise max_bytes, or free "
    f"space; {_RESTART}",
    # A batch that the server gave up: the reason, often a full disk, is in the server's log only.
    js.JS_ATOMIC_PUBLISH_INCOMPLETE_BATCH_ERR: f"the server could not store the messages: see its log, free disk space "
    f"if that is full, {_RESTART}",
    js.JS_MAXIMUM_CONSUMERS_LIMIT_ERR: "the stream or the account has reached its limit of consumers: delete durables "
    "of clients and tables that "
    "no longer exist (binlogsync doctor counts them), or raise max_consumers",
    js.JS_MAXIMUM_STREAMS_LIMIT_ERR: "the account has reached its limit of streams: raise its max_streams (a source "
    "needs the stream, "
    "CDC_<SOURCE>_schemas, and at first use _large, _progress, _clients and _snapshots)",
    js.JS_MEMORY_RESOURCES_EXCEEDED_ERR: "the account has reached its limit of reserved storage: lower "
    "BINLOGSYNC_STREAM_MAX_BYTES, or raise that",
    js.JS_STREAM_MAX_BYTES_REQUIRED: "the account requires a size for each stream: set BINLOGSYNC_STREAM_MAX_BYTES",
    js.JS_NOT_ENABLED_FOR_ACCOUNT_ERR: "JetStream is not enabled for this account: start nats-server with -js, or "
    "enable it in its configuration",
    js.JS_NOT_ENABLED_ERR: "JetStream is not enabled: start nats-server with -js",
    js.JS_NO_ACCOUNT_ERR: "JetStream is not enabled for this account: enable it in the server's configuration",
    js.JS_STREAM_NOT_FOUND_ERR: "the stream was deleted while the tail ran: start the tail again, which recreates the "
    "stream",
    js.JS_STREAM_REPLICAS_NOT_SUPPORTED_ERR: "the cluster has too few servers for so many replicas: lower `replicas`, "
    "or add servers",
}
