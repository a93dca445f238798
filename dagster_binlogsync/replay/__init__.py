"""Replays of past changes: assets partitioned by bookmarks, and a job for any range."""
