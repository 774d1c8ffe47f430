"""LLaVA: an image's features, mapped by a connector, stand in for `<image>` tokens of a causal language model.

Liu et al. 2023, Visual Instruction Tuning. Any vision encoder, connector and language model go together.

Shape suffixes: B rows, T tokens, M distinct images, N images or their tiles, C channels, H height, W width,
S image slots, P tokens of an image or tile, F tokens of all slots, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec

from mllm.compat.transformers_generation import CACHE
from mllm.compat.transformers_models import shard_by
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor, SquarePreprocessor
from mllm.conversation.preprocessing.tiling import TiledPreprocessor, TileLayout, Tiling, read_tiling
from mllm.errors import ConfigError, ModelError
from mllm.geometry import PlacementKind
from mllm.models.auto import build
from mllm.models.composite import Composite, sharding_units
from mllm.models.language_models import taking_embeddings
from mllm.models.llava.tile_features import TileMerger
from mllm.models.runtime.decoding import beams
from mllm.models.runtime.kv_cache import roomy_cache
from mllm.models.runtime.mpt import packable
from mllm.models.runtime.packed_attention import positions
from mllm.models.runtime.packed_mask import PackedAttentionMask
from mllm.models.runtime.position_table import within_positions
from mllm.models.runtime.prefix_cache import PrefixRows
from mllm.models.vision.encoders import new_encoder
from mllm.models.vision.grid import grid_side
from mllm.models.vision.towers import vision_towers
from mllm.registry import CONNECTORS
from mllm.types import IMAGE

FreezePart = Literal["vision_tower", "connector", "language_model"]


class MllmLlavaConfig(PreTrainedConfig):
    """What `Llava` is made of. Not called LlavaConfig: transformers' auto classes look configs up by that name."""

    model_type = "mllm_llava"
    sub_configs_defaults = {  # noqa: RUF012, a class attribute of transformers
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model"),
        "second_vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model", optional=True),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    connector: dict[str, Any] = field(default_factory=lambda: {"type": "mlp2x_gelu"})
    feature_layer: int | Sequence[int | Sequence[int]] = -2
    keep_cls: bool = False
    image_size: int | Sequence[int] | None = None
    """Side of the images in pixels, or that of each vision tower; None: what the encoder was made for."""
    image_token_id: int = 0
    image_mean: Sequence[float] = (0.5, 0.5, 0.5)
    image_std: Sequence[float] = (0.5, 0.5, 0.5)
    second_vision_config: dict[str, object] | PreTrainedConfig | None = None
    """Of a second vision tower beside the first."""
    second_image_mean: Sequence[float] = (0.5, 0.5, 0.5)
    second_image_std: Sequence[float] = (0.5, 0.5, 0.5)
    base_rows: int | None = None
    """Embeddings of the language model before the first of `added_tokens`."""
    added_tokens: Sequence[str] = ()
    """What the tokenizer got beside the language model's own tokens, in order."""
    tiling: dict[str, object] | None = None
    """How images are cut, see `read_tiling`; None: each is one square."""


class Llava(Composite):
    """`vision_encoders` and `language_model` are taken over where given, else built from the config.

    Raises:
        ConfigError: the parts do not go together.
    """

    config: MllmLlavaConfig
    config_class = MllmLlavaConfig
    part_names: ClassVar[Mapping[str, str]] = {name: name for name in get_args(FreezePart)}
    branches_hold_images = True

    def __init__(
        self,
        config: MllmLlavaConfig,
        *,
        vision_encoders: Sequence[PreTrainedModel] = (),
        language_model: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        encoders = [part for part in (config.vision_config, config.second_vision_config) if part is not None]
        self.vision_tower = vision_towers(
            vision_encoders or [new_encoder(encoder) for encoder in encoders],
            feature_layer=config.feature_layer,
            keep_cls=config.keep_cls,
            image_size=config.image_size,
            statistics=[
                (config.image_mean, config.image_std),
                (config.second_image_mean, config.second_image_std),
            ],
        )
        self.language_model: Any = packable(language_model or build(AutoModelForCausalLM, config.text_config))
        self.connector: Any = CONNECTORS.make(
            config.connector,
            vision_width=self.vision_tower.width,
            text_width=self.language_model.get_input_embeddings().embedding_dim,
        )
        self.tiling: Tiling | None = None
        self.mosaic: TileMerger | None = None
        self._finalise_tiling()
        self.post_init()
        self.loss_type = "ForCausalLM"  # tells the Trainer that labels are shifted, so that it counts them so
        shard_by(self, sharding_units(self))

    @contextmanager
    def embedded(
        self,
        input_ids: Tensor,
        pixels: Tensor | None,
        image_index: Tensor | None,
        *,
        packed: PackedAttentionMask | None = None,
        image_sizes: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """As `Composite`; image_sizes: int64 [M, 2], with tiling the (width, height) of each distinct image."""
        yield self.embed(input_ids, pixels, image_index, image_sizes)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixels: Tensor | None = None,
        image_index: Tensor | None = None,
        image_sizes: Tensor | None = None,
        **generation_args: Any,
    ) -> Tensor:
        """The ids that continue left-padded prompts, int64 [B, new tokens]; arguments as in transformers' generate."""
        self.check_padding(attention_mask)
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        within = within_positions(self.language_model, mask_BT, generation_args)
        with taking_embeddings(self.language_model), within as arguments:
            return self.language_model.generate(
                inputs_embeds=self.embed(input_ids, pixels, image_index, image_sizes),
                attention_mask=mask_BT,
                **roomy_cache(self.language_model, generation_args),
                **arguments,
            )

    @torch.no_grad()
    def read_prefixes(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixels: Tensor | None = None,
        image_index: Tensor | None = None,
        image_sizes: Tensor | None = None,
    ) -> PrefixRows:
        """As `VisionLanguageModel`."""
        self.check_sharing()
        return self._read(self.embed(input_ids, pixels, image_index, image_sizes), attention_mask)

    def _read(self, text_BTD: Tensor, attention_mask: Tensor) -> PrefixRows:
        read = self.language_model(
            inputs_embeds=text_BTD,
            attention_mask=attention_mask,
            position_ids=positions(attention_mask),
            logits_to_keep=1,
            use_cache=True,
            **roomy_cache(self.language_model, {}),
        )
        return PrefixRows(cache=read[CACHE])

    @torch.no_grad()
    def generate_with_shared_prefix(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        suffix_ids: Tensor,
        suffix_mask: Tensor,
        suffix_prefix: Tensor,
        *,
        prefixes: PrefixRows | None = None,
        pixels: Tensor | None = None,
        image_index: Tensor | None = None,
        image_sizes: Tensor | None = None,
        **generation_args: Any,
    ) -> Tensor:
        """As `VisionLanguageModel`."""
        self.check_sharing()
        if prefixes is None:
            (rows, length), (_, rest) = input_ids.shape, suffix_ids.shape
            wide = max(length, rest)
            together = [nn.functional.pad(ids, (wide - ids.shape[1], 0)) for ids in (input_ids, suffix_ids)]
            text_BTD = self.embed(torch.cat(together), pixels, image_index, image_sizes)  # each image is encoded once
            prefixes = self._read(text_BTD[:rows, wide - length :], attention_mask)
            text_BSD = text_BTD[rows:, wide - rest :]
        elif pixels is not None:
            text_BSD = self.embed(suffix_ids, pixels, image_index, image_sizes)
        else:
            text_BSD = self.language_model.get_input_embeddings()(suffix_ids)
        prefixes.select(suffix_prefix.repeat_interleave(beams(self, generation_args)))
        mask_BT = torch.cat([attention_mask[suffix_prefix], suffix_mask], dim=1)
        with within_positions(self.language_model, mask_BT, generation_args) as arguments:
            # what the cache holds already is never read
            return self.language_model.generate(
                inputs_embeds=nn.functional.pad(text_BSD, (0, 0, input_ids.shape[1], 0)),
                attention_mask=mask_BT,
                **{CACHE: prefixes.cache},
                **arguments,
            )

    def embed(
        self,
        ids_BT: Tensor,
        pixels_NCHW: Tensor | None,
        image_index_S: Tensor | None,
        image_sizes_M2: Tensor | None = None,
    ) -> Tensor:
        """The embeddings of the text, with the features of each image in its slots."""
        text_BTD = self.language_model.get_input_embeddings()(ids_BT)
        slots_BT = ids_BT == self.config.image_token_id
        if pixels_NCHW is None:
            _check_slots(slots_BT, ())
            if not self.training and not (torch.distributed.is_available() and torch.distributed.is_initialized()):
                return text_BTD
            # an image of zeros without weight: every rank runs the same modules, whatever its batch holds
            images = self.image_features(*self._blank_image(ids_BT.device))
            return text_BTD + (0 * images[0]).sum().to(text_BTD)
        images = self.image_features(pixels_NCHW, image_sizes_M2)
        order = range(len(images)) if image_index_S is None else image_index_S.tolist()
        slots = [images[number] for number in order]
        _check_slots(slots_BT, [len(features_PD) for features_PD in slots])
        features_FD = torch.cat(slots) if slots else text_BTD.new_empty(0)
        return text_BTD.masked_scatter(slots_BT[:, :, None], features_FD.to(text_BTD))

    def image_features(self, pixels_NCHW: Tensor, image_sizes_M2: Tensor | None = None) -> Sequence[Tensor]:
        """[P, D] of each image; without tiling they are one tensor [M, P, D]."""
        features_NPD: Any = self.encode_pixels(pixels_NCHW, self.connector)  # a tensor is a sequence, too
        if self.mosaic is None:
            return features_NPD
        if image_sizes_M2 is None:
            raise ModelError("a model with tiling needs image_sizes beside pixels")
        layouts = [self._layout((width, height)) for width, height in image_sizes_M2.tolist()]
        features_FD = self.mosaic(features_NPD, layouts)
        return features_FD.split([layout.tokens(features_NPD.shape[1]) for layout in layouts])

    def image_preprocessor(self, placement: PlacementKind | None = None) -> ImagePreprocessor:
        """How images are taken, by default padded to a square; see `AnyResolution` and `Crops`.

        Raises:
            ConfigError: the tiling does not go with this placement.
        """
        size, kind = self.vision_tower.size, placement or "pad"
        mean, std = self.config.image_mean, self.config.image_std
        tokens = self.connector.tokens(self.vision_tower.tokens)
        if self.tiling is None:
            return SquarePreprocessor(size=size, mean=mean, std=std, tokens=tokens, placement=kind)
        return TiledPreprocessor(
            tiling=self.tiling, side=size, mean=mean, std=std, tokens=tokens, grid=self._grid, placement=kind
        )

    def resize_images(
        self, image_size: int | Sequence[int] | None = None, tiling: Mapping[str, object] | None = None
    ) -> None:
        """Take images of so many pixels a side, or of one size for each vision tower, or cut them, from now on.

        Raises:
            ConfigError: a vision encoder takes no other size than its own, or the connector not as many patches, or
                the tiles do not fit one of them.
        """
        if image_size is not None:
            self.vision_tower.resize(image_size)
            self.config.image_size = image_size
        if tiling is not None:
            self.config.tiling = dict(tiling)
        self._finalise_tiling()

    def _finalise_tiling(self) -> None:
        self.connector.tokens(self.vision_tower.tokens)  # raises where the connector cannot take so many
        if self.config.tiling is None:
            return
        self.tiling = read_tiling(self.config.tiling)
        self.tiling.check(self.vision_tower.size)
        if self.tiling.joins and self.config.keep_cls:
            raise ConfigError(
                "features of 'any_resolution' make one grid",
                field="keep_cls",
                expected="False with tiling",
                found="True",
            )
        if self.tiling.by_rows and self._grid is None:
            raise ConfigError(
                "set unpad=False, newline=False",
                field="tiling",
                expected="a connector that keeps features in rows, for unpad and newline",
                found=repr(self.config.connector["type"]),
            )
        if self.mosaic is None or self.tiling.newline != (self.mosaic.newline is not None):
            embeddings: Tensor = self.language_model.get_input_embeddings().weight
            self.mosaic = TileMerger(embeddings.shape[1], newline=self.tiling.newline).to(embeddings.dtype)

    @property
    def _grid(self) -> int | None:
        """Features along the side of a tile, where the tiles' features are to make one grid."""
        if self.tiling is None or not self.tiling.joins or not getattr(self.connector, "grid", False):
            return None
        return grid_side(self.connector.tokens(self.vision_tower.tokens))

    def _layout(self, size: tuple[int, int]) -> TileLayout:
        assert self.tiling is not None
        return self.tiling.layout(size, self.vision_tower.size, self._grid)

    def _blank_image(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        pixels_NCHW = self.blank_image(device)
        if self.tiling is None:
            return pixels_NCHW, None
        size = (self.vision_tower.size, self.vision_tower.size)
        return pixels_NCHW.expand(self._layout(size).tiles, -1, -1, -1), torch.tensor([size])


def _check_slots(slots_BT: Tensor, tokens: Sequence[int]) -> None:
    found = int(slots_BT.sum())
    if found != sum(tokens):
        each = f"{tokens[0] if tokens else 0} tokens each" if len(set(tokens)) < 2 else f"{list(tokens)} tokens"
        raise ModelError(
            expected=f"{sum(tokens)} {IMAGE} tokens in the text, for {len(tokens)} slot(s) of {each}", found=str(found)
        )


AutoConfig.register(MllmLlavaConfig.model_type, MllmLlavaConfig)
AutoModel.register(MllmLlavaConfig, Llava)
