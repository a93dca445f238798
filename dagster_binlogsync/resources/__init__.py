"""One ConfigurableResource per system, with context managers that open it through `binlogsync`.

Resources connect only when a run or a sensor tick opens them.
"""
