"""The JetStream sink: exactly once and in order into one stream for each source; the stream contains its checkpoint.

The way of a flush: `messages` builds publish units (`grouping` if a message has several changes), `sink` passes them, a
few ahead of time, to `binlogsync.nats.stream_writer`, which stores them.
"""

from binlogsync.sinks.jetstream.options import JetStreamOptions
from binlogsync.sinks.jetstream.sink import JetStreamSink

__all__ = ["JetStreamOptions", "JetStreamSink"]
