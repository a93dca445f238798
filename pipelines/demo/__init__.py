"""`make demo`: private servers, two databases, a workload and Dagster's UI. Not used by the rest of the project."""
