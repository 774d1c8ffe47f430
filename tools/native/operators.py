"""torchvision beside a PyTorch without a GPU.

torchvision of the package index is built for GPUs. Beside a PyTorch for CPUs its operators are missing, without which
it is not even imported; image processors call none of them. Import this first.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

KEPT: list[Any] = []
"""Operators last as long as what declared them."""


def declare() -> None:
    """Declare the operators of torchvision, where it is there."""
    found = find_spec("torchvision")
    if KEPT or torch.cuda.is_available() or found is None or not found.submodule_search_locations:
        return
    text = (Path(found.submodule_search_locations[0]) / "_meta_registrations.py").read_text(encoding="utf-8")
    names = re.findall(r"torchvision::(\w+)", text) + re.findall(r'register_meta\("(\w+)"', text)
    KEPT.append(torch.library.Library("torchvision", "DEF"))
    for name in dict.fromkeys(names):
        KEPT[0].define(f"{name}(Tensor a) -> Tensor")
