"""mllm: multimodal language models that point.

from mllm import load

answer = load("DIR").chat("photo.jpg", "Where is the dog?")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mllm.serve.chat_model import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # imported when asked for: PyTorch and transformers take seconds to load
        from mllm.serve.chat_model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
