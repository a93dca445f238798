"""JSON columns: their text is JSON already and goes into the envelope as it is."""

from __future__ import annotations

import pyarrow as pa

from binlogsync.render.fragments import Fragments, copy_text


def render_json(array: pa.Array) -> Fragments:
    """string of JSON text; NULL and the JSON value null look the same here, the envelope tells them apart."""
    return copy_text(array)
