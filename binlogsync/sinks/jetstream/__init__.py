"""The JetStream sink: exactly once and in order into one stream per source, which itself says how far it got.

A flush goes through it so: `messages` makes pieces of it (`unit`; `grouping` where a message holds many changes), a
few ahead (`upcoming`); `publish` sends them (`frames` has their text) and notes what is stored (`progress`); `sink`
decides what to do when something fails, `refusals` says it to people, and `stream` knows the stream itself.
"""

from binlogsync.sinks.jetstream.options import JetStreamOptions
from binlogsync.sinks.jetstream.sink import JetStreamSink

__all__ = ["JetStreamOptions", "JetStreamSink"]
