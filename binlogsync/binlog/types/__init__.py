"""One file per family of MySQL types: how its bytes are read, and how they look in Arrow."""
