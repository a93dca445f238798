"""NATS JetStream behind plain calls: a connection, durables, messages as ChangeBatches."""
