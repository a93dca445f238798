"""Blocking access to NATS JetStream; the only package that imports nats-py.

Connection: `client` (`handshake`, `adapter`: what goes beyond the public API of nats-py). Writing a source's stream:
`stream_writer` sends publish units (`publish_unit`, `unit_queue`) by a `publisher` (`protocol_text` encodes messages,
`publish_progress` tracks what is stored) and settles doubts by `stream_end`; `stream` and `stream_watch` check the
stream's configuration. Reading: `reader` (`pull`, `durable`, `messages`, `documents`). Small values: `key_value`.
"""
