"""Blocking access to NATS JetStream: connections, durables, messages decoded to ChangeBatches."""
