"""Where consumers and replays store changes: what these need from a target, and its implementations."""
