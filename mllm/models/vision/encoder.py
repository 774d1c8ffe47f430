"""Images -> features: any transformers vision encoder, read at one or more of its hidden states.

Shape suffixes: M images, C channels, H height, W width, P tokens of an image, D width of a hidden state.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from mllm.compat.transformers_models import set_attention
from mllm.errors import ConfigError, ModelError, one_line
from mllm.fields import show
from mllm.models.vision.encoders import REFUSALS, check_inputs, encoder_inputs, native_size, square

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureShape:
    """What an encoder makes of square images of one size.

    Attributes:
        selects: it can be asked for some of its hidden states, and keeps no others.
        side: patches along a side of the grid that its features make.
        prefix: tokens before the patches (CLS, registers).
        width: of the features, those of all layers together.
        maps: the hidden states are maps, [M, C, H, W] or [M, H, W, C].
        uniform: all hidden states are as many tokens of one width.
        channels_first: of maps, which of the two.
        unused: names of the parameters that no feature depends on.
    """

    selects: bool
    side: int
    prefix: int
    width: int
    maps: bool
    uniform: bool
    channels_first: bool
    unused: frozenset[str]


_SHAPES: dict[tuple[type, str, int, tuple[int, ...]], FeatureShape] = {}
"""By class and config of the encoder, image size and layers: tracing is a forward pass, and loading builds twice."""


class VisionTower(nn.Module):
    """A vision encoder whose features are its hidden states `feature_layer`, side by side.

    Hidden state 0 is the encoder's input to its first layer or stage, -1 the output of the last one, before any final
    norm. Hidden states that are maps (ConvNeXt, Swin, SAM, ...) are read row by row. Without `keep_cls` the tokens
    before the patches (CLS, registers) are left out. Images of another `image_size` than the encoder was made for get
    interpolated position embeddings.

    Raises:
        ConfigError: no such hidden state, hidden states that do not go together, no size or another one than the
            encoder takes, or an encoder that cannot be a vision tower.
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
        if not self.layers:
            raise ConfigError(field="feature_layer", expected="a layer or a list of layers", found="none")
        self.keep_cls = keep_cls
        check_inputs(encoder)
        if self.channels != 3:
            raise ConfigError(field="vision_tower.num_channels", expected="3, as images have", found=f"{self.channels}")
        self._asks_to_interpolate = "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters
        self._native_size = native_size(encoder.config)
        self._size: int | None = None
        if image_size is None and self._native_size is None:
            raise ConfigError(
                f"{self._kind} has no size of its own",
                field="image_size",
                expected="the side of the images in pixels, such as 224",
                found="nothing",
            )
        self._resize(image_size)

    def resize(self, image_size: int | Sequence[int]) -> None:
        """Take images of so many pixels a side from now on.

        Raises:
            ConfigError: not one number, or the encoder takes no other size than its own.
        """
        if not isinstance(image_size, int):
            raise ConfigError(
                field="image_size", expected="a number of pixels for one vision tower", found=show(image_size)
            )
        self._resize(image_size)

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        return (self.encoder,)

    @property
    def width(self) -> int:
        return self._shape.width

    @property
    def size(self) -> int:
        """Side of the square images that the tower takes, in pixels."""
        size = self._native_size if self._size is None else self._size
        assert size is not None, "checked when the tower was made"
        return size

    @property
    def resized(self) -> bool:
        """Whether that is not what the encoder was made for."""
        return self._native_size is not None and self.size != self._native_size

    @property
    def channels(self) -> int:
        return getattr(self.encoder.config, "num_channels", 3)

    @property
    def maps(self) -> bool:
        """Whether the encoder's hidden states are maps, not tokens."""
        return self._shape.maps

    @property
    def uniform(self) -> bool:
        """Whether every layer has the same tokens, as in a ViT; not in stages that become smaller and wider."""
        return self._shape.uniform

    @property
    def patches(self) -> int:
        return self._shape.side**2

    @property
    def tokens(self) -> int:
        """Features of one image."""
        return self.patches + (self.prefix if self.keep_cls else 0)

    @property
    def prefix(self) -> int:
        """Tokens before the patches: CLS, registers."""
        return self._shape.prefix

    def forward(self, pixels_MCHW: Tensor) -> Tensor:
        height, width = pixels_MCHW.shape[-2:]
        if (height, width) != (self.size, self.size):
            raise ModelError(
                expected=f"images of {self.size} x {self.size} for this vision encoder", found=f"{width} x {height}"
            )
        # a list selects, where hidden states are counted as layers: the others are not kept
        wanted = list(self.layers) if self._shape.selects else True
        states = self._states(self.encoder, pixels_MCHW.to(self.encoder.dtype), wanted)
        hidden_MPD = torch.cat([self._tokens(states[layer]) for layer in self.layers], dim=-1)
        return hidden_MPD if self.keep_cls else hidden_MPD[:, self.prefix :]

    def train(self, mode: bool = True) -> VisionTower:
        """As in PyTorch, but batch norms keep their statistics: no image may change the features of another."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self

    def freeze_unused(self) -> None:
        """Freeze what no feature depends on (later layers, pooling): a gradient would be waited for in vain."""
        for name, parameter in self.encoder.named_parameters():
            if name in self._shape.unused:
                parameter.requires_grad_(False)

    @property
    def _kind(self) -> str:
        return self.encoder.config.model_type

    def _resize(self, image_size: int | None) -> None:
        self._size = image_size
        key = (type(self.encoder), _described(self.encoder.config), self.size, self.layers)
        if key not in _SHAPES:
            _SHAPES[key] = self._trace()
        self._shape = _SHAPES[key]

    def _states(self, encoder: PreTrainedModel, pixels_MCHW: Tensor, wanted: bool | list[int]) -> Sequence[Tensor]:
        # some interpolate when told to, others whenever the size differs
        interpolation = {"interpolate_pos_encoding": True} if self.resized and self._asks_to_interpolate else {}
        inputs = encoder_inputs(encoder.config, pixels_MCHW)
        output: Any = encoder(**inputs, output_hidden_states=wanted, **interpolation)
        # of those that have both, only the maps are in the order of the image's rows (Hiera)
        states = getattr(output, "reshaped_hidden_states", None) or getattr(output, "hidden_states", None)
        if states is None:
            raise ConfigError(
                field="vision_tower", expected="an encoder that gives hidden states", found=f"a {self._kind}"
            )
        return states

    def _tokens(self, state: Tensor) -> Tensor:
        """[M, P, D] of a hidden state."""
        if state.dim() == 3:
            return state
        return state.flatten(2).mT if self._shape.channels_first else state.flatten(1, 2)

    def _trace(self) -> FeatureShape:
        """Run the encoder without storage, forward and backward.

        Raises:
            ConfigError: it takes no such images, lacks a layer, or its layers do not go together.
        """
        config = copy.deepcopy(self.encoder.config)
        set_attention(config, "eager")  # the fast kernels need a device
        asked = f"image_size {self.size}: {self._kind} refuses it" if self.resized else ""
        with torch.device("meta"), torch.enable_grad():
            encoder = type(self.encoder)(config).eval()
            # with a gradient of their own: hidden state 0 may be the pixels themselves (DINOv3 ConvNeXt)
            pixels_MCHW = torch.zeros(1, self.channels, self.size, self.size, requires_grad=True)
            try:
                states = self._states(encoder, pixels_MCHW, True)
            except REFUSALS as error:
                said = asked or f"vision_tower: {self._kind} does not accept square images alone"
                raise ConfigError(f"{said}: {one_line(error)}") from error
            count = len(states)
            for layer in self.layers:
                if not isinstance(layer, int) or not -count <= layer < count:
                    raise ConfigError(
                        field="feature_layer",
                        expected=f"a layer of the vision encoder, {-count} to {count - 1}",
                        found=show(layer),
                    )
            chosen = [states[layer] for layer in self.layers]
            if not all(isinstance(state, Tensor) and state.dim() in (3, 4) for state in chosen):
                raise ConfigError(f"vision_tower: {self._kind} gives hidden states that are neither tokens nor maps")
            sum(state.sum() for state in chosen).backward()  # pyright: ignore[reportAttributeAccessIssue]
        unused = frozenset(name for name, parameter in encoder.named_parameters() if parameter.grad is None)
        maps = any(state.dim() == 4 for state in chosen)
        channels_first = maps and _channels_first(states, self._kind)
        grids = [self._grid(state, states, channels_first) for state in chosen]
        if len(set(grids)) > 1:
            each = ", ".join(f"{side} x {side} at {layer}" for layer, (side, _) in zip(self.layers, grids, strict=True))
            raise ConfigError(
                field="feature_layer", expected=f"layers of {self._kind} with one size of grid", found=each
            )
        width = sum(state.shape[1] if channels_first and state.dim() == 4 else state.shape[-1] for state in chosen)
        side, prefix = grids[0]
        return FeatureShape(
            selects=getattr(config, "num_hidden_layers", None) == count - 1,
            side=side,
            prefix=prefix,
            width=width,
            maps=maps,
            uniform=not maps and len({state.shape for state in states}) == 1,
            channels_first=channels_first,
            unused=unused,
        )

    def _grid(self, state: Tensor, states: Sequence[Tensor], channels_first: bool) -> tuple[int, int]:
        """Patches along a side, and tokens before them."""
        if state.dim() == 4:
            return state.shape[2 if channels_first else 1], 0
        tokens = state.shape[1]
        patch = getattr(self.encoder.config, "patch_size", None)
        if patch is None or any(other.shape[1] != tokens for other in states):
            # stages: a square, with or without one token before it
            side = isqrt(tokens)
            if tokens - side**2 > 1:
                raise ConfigError(
                    field="feature_layer",
                    expected="a square of patches",
                    found=f"{tokens} tokens of {self._kind}",
                )
            return side, tokens - side**2
        side = self.size // square(patch)
        if tokens < side**2 or not side:
            raise ConfigError(
                field=f"image_size {self.size}", expected=f"{side**2} patches", found=f"{tokens} tokens of the encoder"
            )
        return side, tokens - side**2


def _described(config: PreTrainedConfig) -> str:
    """The config without what the shape of the features does not depend on."""
    rest = {name: value for name, value in config.to_dict().items() if name not in ("_name_or_path", "dtype")}
    return json.dumps(rest, sort_keys=True, default=str)


def _channels_first(states: Sequence[Tensor], kind: str) -> bool:
    """Whether maps are [M, C, H, W]: their last two dimensions are those of a square image, or the two before.

    Raises:
        ConfigError: they are neither, or it cannot be told.
    """
    maps = [state.shape[1:] for state in states if state.dim() == 4]
    first = all(height == width for _, height, width in maps)
    last = all(height == width for height, width, _ in maps)
    if first == last:
        raise ConfigError(
            f"vision_tower: {kind} gives feature maps that are not square: {[tuple(size) for size in maps]}"
        )
    return first
