"""The JetStream sink: exactly once and in order into one stream for each source; the stream contains its checkpoint.

The way of a flush: `messages` builds publish units (`publish_unit`; `grouping` if a message has several changes), a few
ahead of time (`unit_queue`). `publish` sends them (`protocol_text` encodes them) and tracks what is stored
(`publish_progress`). `sink` handles failures, `server_errors` describes them, `stream` creates and checks the stream.
"""

from binlogsync.sinks.jetstream.options import JetStreamOptions
from binlogsync.sinks.jetstream.sink import JetStreamSink

__all__ = ["JetStreamOptions", "JetStreamSink"]
