"""What is on the wire: subjects, headers, envelopes as JSON and Arrow, read back to ChangeBatches."""
