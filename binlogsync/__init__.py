"""binlogsync: change data capture from MySQL's binary log, exactly once into NATS JetStream and DuckDB."""
