"""torchao: its quantisation schemes by the name of their config class."""

from __future__ import annotations

import importlib
from typing import Any


def schemes() -> dict[str, Any]:
    """Name -> config class."""
    library = importlib.import_module("torchao.quantization")  # slow, and of an extra
    return {name: getattr(library, name) for name in dir(library) if name.endswith("Config")}
