"""Pictures in a terminal that can show them, by kitty's and iTerm2's protocols."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from typing import Literal

from PIL import Image

Protocol = Literal["kitty", "iterm"]
WIDEST = 800
"""Pixels of a side of what is shown, at most."""
CHUNK = 4096
"""Characters of an escape sequence of kitty's, at most."""


def protocol_of(environment: Mapping[str, str]) -> Protocol | None:
    """How the terminal shows pictures, by what it says of itself; None: it does not, or something lies between.

    Source: sw.kovidgoyal.net/kitty/graphics-protocol, iterm2.com/documentation-images.html.
    """
    if environment.get("TMUX") or environment.get("STY"):
        return None
    program = environment.get("TERM_PROGRAM", "")
    if environment.get("KITTY_WINDOW_ID") or environment.get("TERM") == "xterm-kitty" or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return None


def escapes(image: Image.Image, protocol: Protocol) -> str:
    """What makes the terminal show the image where the cursor is."""
    shown = image.copy()
    shown.thumbnail((WIDEST, WIDEST))
    buffer = BytesIO()
    shown.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    if protocol == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(buffer.getvalue())};preserveAspectRatio=1:{data}\x07\n"
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    keys = ["a=T,f=100,"] + [""] * (len(chunks) - 1)
    ends = [1] * (len(chunks) - 1) + [0]
    return (
        "".join(f"\x1b_G{key}m={more};{chunk}\x1b\\" for key, more, chunk in zip(keys, ends, chunks, strict=True))
        + "\n"
    )
