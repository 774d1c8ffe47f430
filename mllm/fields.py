"""Values of JSON records and config sections as messages show them."""

from __future__ import annotations

SHOWN = 60
"""Characters of a value that a message shows."""


def show(value: object) -> str:
    """A value as "found ..." names it: its type and the beginning of its text; None is "nothing"."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and value.bit_length() > 4 * SHOWN:  # Python refuses to spell out the largest
        return f"{type(value).__name__} of {value.bit_length()} bits"
    return f"{type(value).__name__} {str(value)[:SHOWN]!r}"
