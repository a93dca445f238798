"""The tail of a source as a Dagster job."""
