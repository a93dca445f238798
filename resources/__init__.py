"""The connections of this deployment, configured by BINLOGSYNC_* variables; see .env.example."""
