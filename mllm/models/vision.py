"""Pictures -> features: any transformers vision encoder, read at one of its hidden states.

Shape suffixes: M pictures, C channels, H height, W width, P tokens of a picture, D width of the encoder.
"""

from __future__ import annotations

import copy
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mllm.errors import ConfigError, ModelError


class VisionTower(nn.Module):
    """A vision encoder (CLIP, SigLIP, DINOv2, ...) whose features are the hidden state number `feature_layer`.

    Hidden state 0 is the encoder's input, -1 the output of its last layer, before any final norm. Without `keep_cls`
    the tokens before the patches (CLS, registers) are left out.

    Raises:
        ConfigError: the encoder has no such hidden state.
    """

    def __init__(self, encoder: PreTrainedModel, *, feature_layer: int, keep_cls: bool) -> None:
        super().__init__()
        layers = encoder.config.num_hidden_layers
        if not -layers - 1 <= feature_layer <= layers:
            raise ConfigError(f"feature_layer {feature_layer}: the vision encoder has {layers} layers")
        self.encoder = encoder
        self.feature_layer = feature_layer
        self.keep_cls = keep_cls

    @property
    def width(self) -> int:
        return self.encoder.config.hidden_size

    @property
    def size(self) -> int:
        """Side of the square pixels that the encoder takes."""
        return _side(self.encoder.config.image_size)

    @property
    def patches(self) -> int:
        return (self.size // _side(self.encoder.config.patch_size)) ** 2

    @property
    def tokens(self) -> int:
        """Features of one picture."""
        return self._trace[0] if self.keep_cls else self.patches

    @property
    def prefix(self) -> int:
        """Tokens before the patches: CLS, registers."""
        return self._trace[0] - self.patches

    def forward(self, pixels_MCHW: Tensor) -> Tensor:
        height, width = pixels_MCHW.shape[-2:]
        if (height, width) != (self.size, self.size):
            raise ModelError(f"pixels of {width} x {height} for a vision encoder of {self.size} x {self.size}")
        # a list selects: the other hidden states are not kept
        states = self.encoder(pixels_MCHW.to(self.encoder.dtype), output_hidden_states=[self.feature_layer])
        hidden_MPD = states.hidden_states[self.feature_layer]
        return hidden_MPD if self.keep_cls else hidden_MPD[:, hidden_MPD.shape[1] - self.patches :]

    def freeze_unused(self) -> None:
        """Freeze what no feature depends on (later layers, pooling): a gradient would be waited for in vain."""
        for name, parameter in self.encoder.named_parameters():
            if name in self._trace[1]:
                parameter.requires_grad_(False)

    @cached_property
    def _trace(self) -> tuple[int, frozenset[str]]:
        """(tokens of one picture, names of the parameters its features do not depend on), by a run without storage."""
        config = copy.deepcopy(self.encoder.config)
        config._attn_implementation = "eager"  # the fast kernels need a device
        with torch.device("meta"), torch.enable_grad():
            encoder = type(self.encoder)(config).eval()
            pixels_MCHW = torch.zeros(1, config.num_channels, self.size, self.size)
            states = encoder(pixels_MCHW, output_hidden_states=[self.feature_layer])
            hidden_MPD = states.hidden_states[self.feature_layer]
            hidden_MPD.sum().backward()
        unused = (name for name, parameter in encoder.named_parameters() if parameter.grad is None)
        return hidden_MPD.shape[1], frozenset(unused)


def _side(size: int | list[int] | tuple[int, int]) -> int:
    if isinstance(size, int):
        return size
    height, width = size
    if height != width:
        raise ModelError(f"vision encoder of {width} x {height} pixels: only squares are supported")
    return width
