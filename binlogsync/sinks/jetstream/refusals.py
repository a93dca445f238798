"""What nats-server says against storing, in words that help."""

from __future__ import annotations

import nats.js.errors

from binlogsync.errors import SinkError


def refusal(place: str, stream: str, error: nats.js.errors.APIError) -> SinkError:
    """The server at `place` refuses to serve the stream."""
    hint = _HINTS.get(error.err_code or 0, f"look at its log and at: nats stream info {stream}")
    return SinkError(
        f"NATS at {place} refuses to serve stream {stream}: {error.description} (code {error.err_code}); {hint}"
    )


def gave_up(place: str, stream: str, error: Exception) -> SinkError:
    """It was tried for long enough."""
    if isinstance(error, nats.js.errors.APIError):
        return refusal(place, stream, error)
    if isinstance(error, SinkError):
        return error
    return SinkError(f"NATS at {place} does not store changes: {error!r}; look at its log")


_HINTS = {
    10023: "the server is short of disk or memory for JetStream: free space, or raise max_file_store",
    10047: "the server is short of disk or memory for JetStream: free space, or raise max_file_store",
    10077: "the stream has reached its limit, or the disk is full: raise max_bytes, or free space",
    10039: "JetStream is not enabled for this account: start nats-server with -js, or enable it in its configuration",
    10076: "JetStream is not enabled: start nats-server with -js",
    10035: "JetStream is not enabled for this account: enable it in the server's configuration",
    10059: "the stream was deleted while the tail ran: start it again, and it makes the stream anew",
    10074: "the cluster has too few servers for so many replicas: lower `replicas`, or add servers",
}
