"""Consumer runs: one run consumes any tables of a source."""
