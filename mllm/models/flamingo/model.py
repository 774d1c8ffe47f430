"""Flamingo: a causal language model that reads media through gated cross-attention before every n-th layer.

Alayrac et al. 2022, Flamingo; Awadalla et al. 2023, OpenFlamingo, whose variants and checkpoints it speaks.

Shape suffixes: B rows, T tokens, M distinct media, F frames, C channels, H height, W width of pixels or media,
S media slots of the batch or of a row, P patches, L latents, D width of the language model.
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
    PreTrainedTokenizerBase,
)
from transformers.configuration_utils import SubConfigSpec

from mllm.compat.transformers_generation import CACHE
from mllm.compat.transformers_models import mark_initialised, shard_by
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor, VideoPreprocessor
from mllm.errors import ConfigError, ModelError, nearest
from mllm.fields import show
from mllm.geometry import PlacementKind
from mllm.models.auto import build
from mllm.models.composite import Composite, sharding_units
from mllm.models.flamingo.cross_attention import (
    ATTEND,
    Media,
    Segments,
    insert_cross_attention,
    media_segments,
    media_so_far,
    text_time,
)
from mllm.models.flamingo.perceiver import PerceiverResampler, flat_frames
from mllm.models.new_rows import TrainEmbeddings, finalise_embeddings
from mllm.models.runtime.kv_cache import roomy_cache
from mllm.models.runtime.mpt import packable
from mllm.models.runtime.packed_mask import PackedAttentionMask
from mllm.models.runtime.position_table import within_positions
from mllm.models.vision.encoder import VisionTower
from mllm.models.vision.encoders import new_encoder
from mllm.types import IMAGE

FreezePart = Literal["vision_tower", "perceiver", "cross_attention", "language_model"]
FREEZE_NAMES = {name: "connector" if name == "perceiver" else name for name in get_args(FreezePart)}
"""What `freeze` calls them; elsewhere the perceiver is the connector."""


class MllmFlamingoConfig(PreTrainedConfig):
    """What `Flamingo` is made of."""

    model_type = "mllm_flamingo"
    sub_configs_defaults = {  # noqa: RUF012, a class attribute of transformers
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    cross_attn_every_n_layers: int = 4
    perceiver: dict[str, Any] = field(default_factory=dict)
    vision_ln_post: bool = False
    attend: str = "immediate"
    image_blind_decoding: bool = False
    generated_image_resets: bool = False
    image_token_id: int = 0
    new_token_ids: Sequence[int] = ()
    image_mean: Sequence[float] = (0.5, 0.5, 0.5)
    image_std: Sequence[float] = (0.5, 0.5, 0.5)
    base_rows: int | None = None
    """Embeddings of the language model before the first of `added_tokens`."""
    added_tokens: Sequence[str] = ()
    """What the tokenizer got beside the language model's own tokens, in order."""


class Flamingo(Composite):
    """`vision_encoder` and `language_model` are taken over where given, else built from the config."""

    config: MllmFlamingoConfig
    config_class = MllmFlamingoConfig
    part_names: ClassVar[Mapping[str, str]] = FREEZE_NAMES

    def __init__(
        self,
        config: MllmFlamingoConfig,
        *,
        vision_encoder: PreTrainedModel | None = None,
        language_model: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        if config.attend not in ATTEND:
            raise ConfigError(
                nearest(config.attend, ATTEND),
                field="attend",
                expected="what text attends to",
                found=show(config.attend),
            )
        self.vision_tower = VisionTower(
            vision_encoder or new_encoder(config.vision_config), feature_layer=-1, keep_cls=False
        )
        if config.vision_ln_post and not hasattr(self.vision_tower.encoder, "post_layernorm"):
            raise ConfigError(
                field="vision_ln_post",
                expected="a vision encoder with a final norm",
                found=type(self.vision_tower.encoder).__name__,
            )
        self.perceiver = PerceiverResampler(width=self.vision_tower.width, **config.perceiver)
        mark_initialised(self.perceiver)
        self.language_model: Any = packable(language_model or build(AutoModelForCausalLM, config.text_config))
        self.state = insert_cross_attention(
            self.language_model, every=config.cross_attn_every_n_layers, media_width=self.vision_tower.width
        )
        self.train_embeddings: TrainEmbeddings = "none"
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
        frames: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """As `Composite`. Text of packed rows reads media of its own segment and of those that this continues.

        Args:
            pixels: [N, C, H, W], the frames of M media one after the other, each medium once; or [M, F, C, H, W].
            image_index: int64 [S], the medium of each slot in reading order; None: every medium once, in order.
            frames: int64 [M], how many rows of `pixels` each medium has; None: one, an image.
        """
        segments = None if packed is None else Segments(*packed.tour)
        with self.state.reading(self.encode(input_ids, pixels, image_index, frames, segments)):
            yield self.embed(input_ids)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixels: Tensor | None = None,
        image_index: Tensor | None = None,
        frames: Tensor | None = None,
        **generation_args: Any,
    ) -> Tensor:
        """The ids that continue left-padded prompts, int64 [B, new tokens]; arguments as in transformers' generate.

        New tokens read the media that the last token of the prompt reads, also after an `<image>` among them.
        """
        self.check_padding(attention_mask)
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hook = self.language_model.register_forward_pre_hook(self._before_step, with_kwargs=True)
        within = within_positions(self.language_model, mask_BT, generation_args, prompt=input_ids.shape[1])
        try:
            with self.state.reading(self.encode(input_ids, pixels, image_index, frames)), within as arguments:
                ids = self.language_model.generate(
                    input_ids=input_ids,
                    attention_mask=mask_BT,
                    **roomy_cache(self.language_model, generation_args),
                    **arguments,
                )
        finally:
            hook.remove()
        return ids[:, input_ids.shape[1] :]

    def _before_step(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Note whether tokens go on behind a cache. OpenFlamingo's own rule, where it is asked for: a step with a new
        `<image>` in any row counts the media of all rows anew."""
        cache = kwargs.get(CACHE)
        self.state.continues = cache is not None and cache.get_seq_length() > 0
        if self.config.generated_image_resets and self.state.continues:
            slots_BT = kwargs["input_ids"] == self.config.image_token_id
            if slots_BT.any():
                self.state.new_time_B = slots_BT.sum(1)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """The embeddings of the text; where only new tokens are trained, the others get no gradient."""
        text_BTD = self.language_model.get_input_embeddings()(ids_BT)
        if self.train_embeddings != "new":
            return text_BTD
        new_BT = torch.isin(ids_BT, torch.tensor(self.config.new_token_ids, device=ids_BT.device))
        return torch.where(new_BT[:, :, None], text_BTD, text_BTD.detach())

    def encode(
        self,
        ids_BT: Tensor,
        pixels: Tensor | None,
        image_index_S: Tensor | None = None,
        frames_M: Tensor | None = None,
        segments: Segments | None = None,
    ) -> Media | None:
        """The media of a batch, each encoded once, laid out by row; None where nothing is to be read.

        Raises:
            ModelError: the slots in the text are not those that the media fill.
        """
        attend: Any = self.config.attend
        slots_BT = ids_BT == self.config.image_token_id
        if segments is not None and attend == "all_previous_leaky":
            raise ModelError(
                "attend 'all_previous_leaky' would read across the samples of a packed row; set packing to 'none'"
            )
        segments = segments or Segments.whole(ids_BT)
        if pixels is not None:
            pixels, frames_M = flat_frames(pixels, frames_M)
        filled = 0 if frames_M is None else len(frames_M if image_index_S is None else image_index_S)
        found = int(slots_BT.sum())
        if found != filled:
            raise ModelError(
                expected=f"{filled} {IMAGE} tokens in the text, one for each image or video", found=str(found)
            )
        if pixels is None:
            if not self.training and not (torch.distributed.is_available() and torch.distributed.is_initialized()):
                return None
            # an image of zeros that no token reads: every rank runs the same modules, whatever its batch holds
            latents_MLW = self.media_latents(self.blank_image(ids_BT.device))
            latents_BSLW = latents_MLW.expand(len(ids_BT), -1, -1)[:, None]
        else:
            row_S, column_S = slots_BT.nonzero(as_tuple=True)
            # the number in its own sample, and that in its row
            sample_number_S = media_so_far(slots_BT, segments)[row_S, column_S].sum(1) - 1
            number_S = slots_BT.cumsum(1)[row_S, column_S] - 1
            latents_SLW = self.media_latents(pixels, frames_M, image_index_S, sample_number_S)
            latents_BSLW = latents_SLW.new_zeros(len(ids_BT), int(slots_BT.sum(1).max()), *latents_SLW.shape[1:])
            latents_BSLW = latents_BSLW.index_put((row_S, number_S), latents_SLW)
        return Media(
            latents_BSLW=latents_BSLW,
            text_time_BT=text_time(slots_BT, attend, segments),
            segments=segments,
            media_segments=media_segments(slots_BT, segments),
            attend=attend,
            blind_decoding=self.config.image_blind_decoding,
        )

    def media_latents(
        self,
        pixels: Tensor,
        frames: Tensor | None = None,
        image_index_S: Tensor | None = None,
        number_S: Tensor | None = None,
    ) -> Tensor:
        """[S, L, W] for the slots that `image_index_S` fills, or of each medium; pixels and frames as in `forward`."""
        pixels_NCHW, frames_M = flat_frames(pixels, frames)
        norm: list[Any] = [self.vision_tower.encoder.post_layernorm] if self.config.vision_ln_post else []
        features = self.encode_pixels(pixels_NCHW, *norm)
        features_NPW = features.to(self.perceiver.latents.dtype)
        media = torch.arange(len(frames_M), device=features.device)
        if self.perceiver.media_time_embs is None:
            latents_MLW = self._resample(features_NPW, frames_M, media, None)
            return latents_MLW if image_index_S is None else latents_MLW[image_index_S]
        # latents depend on the slot: the same image may be the first of one row and the second of another
        media_S = media if image_index_S is None else image_index_S
        return self._resample(
            features_NPW, frames_M, media_S, torch.zeros_like(media_S) if number_S is None else number_S
        )

    def _resample(self, features_NPW: Tensor, frames_M: Tensor, media_S: Tensor, number_S: Tensor | None) -> Tensor:
        """[S, L, W], media of as many frames together."""
        first_M = frames_M.cumsum(0) - frames_M
        found: list[Tensor] = []
        places: list[Tensor] = []
        for count in frames_M.unique().tolist():
            place_G = (frames_M[media_S] == count).nonzero()[:, 0]
            rows_GF = first_M[media_S[place_G], None] + torch.arange(count, device=media_S.device)
            found.append(self.perceiver(features_NPW[rows_GF], None if number_S is None else number_S[place_G]))
            places.append(place_G)
        return torch.cat(found)[torch.cat(places).argsort()]

    def image_preprocessor(self, placement: PlacementKind | None = None) -> ImagePreprocessor:
        """How images and the frames of videos are taken, by default padded to a square."""
        return VideoPreprocessor(
            size=self.vision_tower.size,
            mean=self.config.image_mean,
            std=self.config.image_std,
            tokens=1,
            placement=placement or "pad",
        )

    @property
    def sharing_obstacle(self) -> str:
        return "cross-attention reads the media of whole prompts"

    def record_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """As `Composite`; tokens that get embeddings now are new ones."""
        super().record_tokenizer(tokenizer)
        embeddings: Any = self.get_input_embeddings()
        grown = range(embeddings.num_embeddings, len(tokenizer))
        self.config.new_token_ids = sorted({*self.config.new_token_ids, *grown})

    def freeze(self, parts: Sequence[str], train_embeddings: TrainEmbeddings = "none") -> None:
        """Train all parts but these; a frozen part also drops nothing out.

        `train_embeddings`: what of a frozen language model is trained all the same: "new", the rows of new tokens in
        the input embeddings (in a tied head as well); "input", all input embeddings; "input_and_output", also those
        of the head; "none".

        Raises:
            ConfigError: an unknown part, or `train_embeddings` of a language model that is trained.
        """
        if train_embeddings != "none" and "language_model" not in parts:
            raise ConfigError(
                "the whole language model is trained already",
                field="train_embeddings",
                expected="'none' where the language model is not frozen",
                found=repr(train_embeddings),
            )
        super().freeze(parts)
        if self.config.vision_ln_post:
            self.vision_tower.encoder.post_layernorm.requires_grad_("vision_tower" not in parts)
        self.train_embeddings = train_embeddings
        finalise_embeddings(self.language_model, train_embeddings, self.config.new_token_ids)


AutoConfig.register(MllmFlamingoConfig.model_type, MllmFlamingoConfig)
AutoModel.register(MllmFlamingoConfig, Flamingo)
