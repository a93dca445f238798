"""The settings of a deployment, for the command line, Dagster and Python programs alike: one `Settings`.

    settings = Settings.read()
    sinks = [JetStreamSink(settings.jetstream())]
    tail = Tail(settings.mysql(), sinks, settings.positions(), settings.tail(), owner="me")

A setting is set in the environment, in `.env` or in binlogsync.toml; the first of them wins, and an empty value is not
set. model.py lists the settings; catalog.py their names; layers.py reads the files; load.py merges and checks;
deployment.py makes the options of the library; reference.py writes docs/settings.md and .env.example.
"""

from binlogsync.settings.deployment import Settings

__all__ = ["Settings"]
