"""The wire format: subjects, headers, envelopes as JSON and Arrow, and their decoding to ChangeBatches."""
