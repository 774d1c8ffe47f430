"""Escape sequences that show pictures."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from mllm.commands.chat.pictures import WIDEST, escapes, protocol_of


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-256color"}, None),
        ({"KITTY_WINDOW_ID": "3"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"KITTY_WINDOW_ID": "3", "TMUX": "/tmp/tmux"}, None),
    ],
)
def test_protocol_of_reads_what_the_terminal_says(environment: dict[str, str], protocol: str | None) -> None:
    assert protocol_of(environment) == protocol


def noise(size: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8))


def test_escapes_of_kitty_hold_the_image_in_chunks() -> None:
    written = escapes(noise(64), "kitty")
    chunks = re.findall(r"\x1b_G(?:a=T,f=100,)?m=([01]);([^\x1b]*)\x1b\\", written)
    assert len(chunks) > 2
    assert [more for more, _ in chunks] == ["1"] * (len(chunks) - 1) + ["0"]
    assert all(len(chunk) <= 4096 for _, chunk in chunks)
    data = base64.b64decode("".join(chunk for _, chunk in chunks))
    assert Image.open(io.BytesIO(data)).size == (64, 64)


def test_escapes_of_iterm_hold_a_smaller_image() -> None:
    written = escapes(noise(WIDEST + 100), "iterm")
    match = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);preserveAspectRatio=1:(.*)\x07\n", written)
    assert match is not None
    data = base64.b64decode(match[2])
    assert (len(data), Image.open(io.BytesIO(data)).size) == (int(match[1]), (WIDEST, WIDEST))
