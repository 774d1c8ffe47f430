"""tqdm: the progress bars that are open."""

from __future__ import annotations

import sys

from mllm.compat.names import member


def close_bars() -> None:
    """Close all open bars, so that what is printed next begins on a line of its own."""
    module = sys.modules.get("tqdm.std")
    if module is not None:  # else there is none
        for bar in list(getattr(member(module, "tqdm"), "_instances", ())):
            bar.close()
