"""Pictures -> features: any transformers vision encoder, read at one or more of its hidden states.

Shape suffixes: M pictures, C channels, H height, W width, P tokens of a picture, D width of the encoder.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mllm.errors import ConfigError, ModelError


class VisionTower(nn.Module):
    """A vision encoder (CLIP, SigLIP, DINOv2, ...) whose features are its hidden states `feature_layer`, side by side.

    Hidden state 0 is the encoder's input, -1 the output of its last layer, before any final norm. Without `keep_cls`
    the tokens before the patches (CLS, registers) are left out. Pictures of another `image_size` than the encoder was
    made for get interpolated position embeddings.

    Raises:
        ConfigError: the encoder has no such hidden state, or takes no other size.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        *,
        feature_layer: int | Sequence[int],
        keep_cls: bool,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_layer = feature_layer
        self.layers = (feature_layer,) if isinstance(feature_layer, int) else tuple(feature_layer)
        count = encoder.config.num_hidden_layers
        if not self.layers:
            raise ConfigError("feature_layer: expected a layer or a list of layers, found none")
        for layer in self.layers:
            if not isinstance(layer, int) or not -count - 1 <= layer <= count:
                raise ConfigError(f"feature_layer {layer}: the vision encoder has {count} layers")
        self.keep_cls = keep_cls
        self._asks_to_interpolate = "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters
        self._size: int | None = None
        if image_size is not None:
            self.resize(image_size)

    def resize(self, image_size: int | Sequence[int]) -> None:
        """Take pictures of so many pixels a side from now on.

        Raises:
            ConfigError: not one number, or the encoder takes no other size than its own.
        """
        if not isinstance(image_size, int):
            raise ConfigError(f"image_size: expected a number of pixels for one vision tower, found {image_size!r}")
        self._size = image_size
        self.__dict__.pop("_trace", None)
        if not self.resized:
            return
        try:
            found = self._trace[0]
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"image_size {image_size}: {self.encoder.config.model_type} refuses it: {error}"
            ) from error
        if found < self.patches or not self.patches:
            raise ConfigError(f"image_size {image_size}: {found} tokens come out, expected {self.patches} patches")

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        return (self.encoder,)

    @property
    def width(self) -> int:
        return self.encoder.config.hidden_size * len(self.layers)

    @property
    def size(self) -> int:
        """Side of the square pixels that the tower takes."""
        return self._native_size if self._size is None else self._size

    @property
    def resized(self) -> bool:
        """Whether that is not what the encoder was made for."""
        return self.size != self._native_size

    @property
    def channels(self) -> int:
        return self.encoder.config.num_channels

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
        hidden_MPD = self._read(self.encoder, pixels_MCHW.to(self.encoder.dtype))
        return hidden_MPD if self.keep_cls else hidden_MPD[:, hidden_MPD.shape[1] - self.patches :]

    def freeze_unused(self) -> None:
        """Freeze what no feature depends on (later layers, pooling): a gradient would be waited for in vain."""
        for name, parameter in self.encoder.named_parameters():
            if name in self._trace[1]:
                parameter.requires_grad_(False)

    @property
    def _native_size(self) -> int:
        return _side(self.encoder.config.image_size)

    def _read(self, encoder: PreTrainedModel, pixels_MCHW: Tensor) -> Tensor:
        # some interpolate when told to, others whenever the size differs
        interpolation = {"interpolate_pos_encoding": True} if self.resized and self._asks_to_interpolate else {}
        # a list selects: the other hidden states are not kept
        states = encoder(pixels_MCHW, output_hidden_states=list(self.layers), **interpolation).hidden_states
        return torch.cat([states[layer] for layer in self.layers], dim=-1)

    @cached_property
    def _trace(self) -> tuple[int, frozenset[str]]:
        """(tokens of one picture, names of the parameters its features do not depend on), by a run without storage."""
        config = copy.deepcopy(self.encoder.config)
        config._attn_implementation = "eager"  # the fast kernels need a device
        with torch.device("meta"), torch.enable_grad():
            encoder = type(self.encoder)(config).eval()
            hidden_MPD = self._read(encoder, torch.zeros(1, config.num_channels, self.size, self.size))
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
