"""`make demo`: private servers, two schemas, a workload, and Dagster's UI over them; needed nowhere else."""
