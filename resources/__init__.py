"""One ConfigurableResource per system: its fields, and context managers that open it through `binlogsync`.

Nothing connects before a run or a tick asks. `from_environment` of each fills it from BINLOGSYNC_* variables; see
.env.example.
"""
