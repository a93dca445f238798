"""The component `BinlogSyncComponent`: CDC of one source as YAML, for projects of `dg`."""
