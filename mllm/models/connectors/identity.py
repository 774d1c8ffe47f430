"""No connector at all: the features are tokens as they are."""

from __future__ import annotations

from torch import Tensor, nn

from mllm.errors import ConfigError
from mllm.registry import CONNECTORS


@CONNECTORS.register_module("identity")
class Identity(nn.Module):
    """No layers: the language model reads the features as they are.

    [M, P, vision_width] -> the same.

    Raises:
        ConfigError: the language model has another width.
    """

    grid = True

    def __init__(self, *, vision_width: int, text_width: int) -> None:
        super().__init__()
        if vision_width != text_width:
            raise ConfigError(
                "use another connector",
                field="connector 'identity'",
                expected=f"vision features as wide as the language model, {text_width}",
                found=str(vision_width),
            )

    def tokens(self, patches: int) -> int:
        """Tokens of an image, of which the vision tower gives `patches`."""
        return patches

    def forward(self, features_MPD: Tensor) -> Tensor:
        return features_MPD
