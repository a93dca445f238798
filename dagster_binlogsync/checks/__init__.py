"""Asset checks of binlogs, streams and mirrors that no consumer run reports."""
