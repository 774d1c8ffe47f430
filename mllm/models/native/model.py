"""A transformers vision language model with what the pipeline asks of a model.

Shape suffixes: B rows, T tokens, S image slots.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from mllm.compat.transformers_generation import CACHE
from mllm.compat.transformers_models import positions_of_prompts, shard_by
from mllm.errors import ConfigError, ModelError
from mllm.files import parse_json
from mllm.models.composite import sharding_units
from mllm.models.language_models import continuing_obstacle, padding_obstacle, sharing_obstacle
from mllm.models.native.family import Family
from mllm.models.native.once import ENCODED, PIXELS, encoded_once, is_sharded, takes_features
from mllm.models.native.positions import PackedRows
from mllm.models.native.tensors import flat_names, split_images
from mllm.models.native.view import ProcessorView, image_ids
from mllm.models.parts import PART_PATTERNS, PartedModel, part_of
from mllm.models.runtime.decoding import beams
from mllm.models.runtime.kv_cache import roomy_cache
from mllm.models.runtime.loss import Scoring, labelled_loss
from mllm.models.runtime.packed_attention import check_packing, check_packing_was_used, enable_packed_attention
from mllm.models.runtime.position_table import within_positions
from mllm.models.runtime.prefix_cache import PrefixRows
from mllm.models.vision.kept_features import VISION_SIDE

OLD_SIZES = ("min_pixels", "max_pixels")
"""What Qwen-VL folders said before `size`, and what would go before it."""


class Native(PartedModel):
    """Comes before a model's own class, see `native_class`; all that is not said here is that class's.

    Attributes:
        family: what its kind does its own way.
        view: its processor, and what it says of images.
        processor_files: texts of the folder's files about images and videos, by name; saved beside the weights.
        image_token_id: of the token that stands for one feature of an image.
        unproved: why rows of a family without a file cannot be packed ("packs") or prompts not share ("shares").
        type_ids: of all tokens that its processor marks as an image's.
    """

    part_names: ClassVar[Mapping[str, str]] = {name: name for name in PART_PATTERNS if name != "cross_attention"}
    unproved: Mapping[str, str] = {}
    family: Family
    view: ProcessorView
    processor_files: Mapping[str, str]
    image_token_id: int
    type_ids: Tensor

    @classmethod
    def is_custom_code(cls) -> bool:
        return False  # so that the weights of its own class are found under the names they were ever saved by

    def attach(self, *, view: ProcessorView, files: Mapping[str, str], image_token_id: int) -> None:
        self.family = view.family
        self.view = view
        self.processor_files = dict(files)
        self.image_token_id = image_token_id
        known = [] if view.processor is None else image_ids(view.processor)
        self.type_ids = torch.tensor(known or [image_token_id], device="cpu")  # of a model without storage, too
        self.family.prepare(self)
        shard_by(self, sharding_units(self))  # transformers lists layers that some of its models lack
        self.loss_type = "ForCausalLM"  # tells the Trainer that labels are shifted, so that it counts them so

    def run(
        self,
        forward: Callable[..., Any],
        input_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_logits: bool = False,
        scoring: Scoring | None = None,
        **arguments: Any,
    ) -> Any:
        """The loss, or what `scoring` asks for, where there are labels, else what the model's own `forward` gives.

        Raises:
            ModelError: rows are packed, and this family or its attention cannot, or not in this way.
        """
        if input_ids is None or arguments.get(CACHE) is not None:  # a step of generation
            return forward(input_ids=input_ids, labels=labels, **arguments)
        arguments, blank = self._own_arguments(input_ids, labels, arguments, once=True)
        if labels is None:
            return forward(input_ids=input_ids, **arguments)

        def whole() -> Any:
            return forward(input_ids=input_ids, use_cache=False, **arguments)

        with self._seeing(blank):
            found = labelled_loss(
                self,
                whole,
                labels,
                num_items_in_batch=num_items_in_batch,
                return_logits=return_logits,
                scoring=scoring,
            )
        check_packing_was_used(arguments.get("spans"), self.text_model)
        return found

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **arguments: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The ids that continue left-padded prompts, int64 [B, new tokens]; arguments as in transformers' generate."""
        once = not is_sharded(self) and beams(self, arguments) == 1
        arguments, blank = self._own_arguments(input_ids, None, arguments, once=once)
        if blank:
            self.family.features(self, blank)  # generate reads images first, whatever `forward` does
        self.check_padding(attention_mask)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self.supports_prefix_sharing:
            arguments |= roomy_cache(self.text_model, arguments)
        with within_positions(self.text_model, mask, arguments, prompt=input_ids.shape[1]) as arguments:
            ids = self.generate_own(input_ids=input_ids, attention_mask=mask, **arguments)
        return ids[:, input_ids.shape[1] :]

    def generate_own(self, **arguments: Any) -> Tensor:
        """What `generate` of the model's own class gives."""
        return super().generate(**arguments)  # pyright: ignore

    @property
    def remembered(self) -> list[str] | None:
        """The names of `family.beside` that this model has."""
        names = self.family.beside
        return None if names is None else [name for name in names if _has(self, name)]

    @property
    def sharing_obstacle(self) -> str | None:
        """Why answers to prompts that begin alike cannot share one reading of the beginning; None: they can."""
        obstacle = sharing_obstacle(self.text_model)
        if obstacle is None and self.remembered is None:
            why = self.unproved.get("shares", "reads each prompt by itself")
            return f"{self.config.model_type} {why}"
        return obstacle

    @property
    def continuing_obstacle(self) -> str | None:
        """Why a cached prompt cannot go on by several tokens at once; None: it can."""
        return self.sharing_obstacle if self.remembered is None else continuing_obstacle(self.text_model)

    @property
    def padding_obstacle(self) -> str | None:
        """Why prompts of different lengths cannot be answered in one batch; None: they can."""
        return padding_obstacle(self.text_model)

    @property
    def features_obstacle(self) -> str | None:
        """Why features of images cannot be kept across epochs; None: they can."""
        if not takes_features(type(self)):
            return f"{self.config.model_type} takes no features in place of pixels"
        trained = [part for part in VISION_SIDE if part in self.trained_parts]
        what = "what sees images" if "rest" in trained else "its " + " and ".join(trained).replace("_", " ")
        return f"training changes {what}" if trained else None

    def check_packing(self) -> None:
        """
        Raises:
            ModelError: samples packed into one row would see each other.
        """
        check_packing(self.text_model)
        if self.family.pack is None:
            why = self.unproved.get("packs", "computes its own positions or masks, which packed rows would mix")
            raise ModelError(
                f"{self.config.model_type} {why}: set data_args.collator_kwargs.packing to 'none'",
            )

    @torch.no_grad()
    def read_prefixes(self, input_ids: Tensor, attention_mask: Tensor, **images: Tensor) -> PrefixRows:
        """As `VisionLanguageModel`."""
        self.check_sharing()
        own, blank = self._own_arguments(input_ids, None, images, once=not is_sharded(self))
        own["attention_mask"] = attention_mask
        own["position_ids"] = positions_of_prompts(self, input_ids, own)
        own |= roomy_cache(self.text_model, {})
        with self._seeing(blank):
            cache = self(input_ids=input_ids, logits_to_keep=1, use_cache=True, **own)[CACHE]
        return PrefixRows(cache=cache, beside={name: attrgetter(name)(self) for name in self.remembered or ()})

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
        **arguments: Any,
    ) -> Tensor:
        """As `VisionLanguageModel`; `arguments`: of the images, and as in transformers' generate."""
        self.check_sharing()
        seen = {name: arguments.pop(name) for name in (*flat_names(arguments), "image_index") if name in arguments}
        read = prefixes or self.read_prefixes(input_ids, attention_mask, **seen)
        for name, tensor in read.beside.items():
            holder, _, attribute = name.rpartition(".")
            setattr(self.get_submodule(holder), attribute, tensor[suffix_prefix])
        beginnings, rests = (input_ids, attention_mask), (suffix_ids, suffix_mask)
        return read.continued(self, self.generate_own, beginnings, rests, suffix_prefix, arguments)

    def get_output_embeddings(self) -> Any:
        """The head, where the model's own class does not say that its language model has one (Nemotron Omni)."""
        head = super().get_output_embeddings()
        return self.text_model.get_output_embeddings() if head is None else head

    def image_preprocessor(self, placement: str | None = None) -> ProcessorView:
        """How images are taken.

        Raises:
            ConfigError: a `placement` is asked for, where the family's processor has its own.
        """
        if placement is not None:
            raise ConfigError(
                "change model_args.image_processor instead",
                field="placement",
                expected=f"none, as {self.config.model_type} places images with its own processor",
                found=repr(placement),
            )
        return self.view

    def image_marks(self, ids_BT: Tensor) -> Tensor:
        """1 where a token stands for an image, as processors mark it, else 0; int64."""
        return torch.isin(ids_BT, self.type_ids.to(ids_BT.device)).long()

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, **arguments: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As `PartedModel`, with the processor's files."""
        super().save_pretrained(save_directory, is_main_process, **arguments)
        if is_main_process:
            for name, text in self.processor_files.items():
                (Path(save_directory) / name).write_text(text, encoding="utf-8")

    def own_inputs(self, input_ids: Tensor, images: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the model's own class takes of texts [B, T] and the tensors of their images."""
        arguments, _ = self._own_arguments(input_ids, None, images)
        return {"input_ids": input_ids, **arguments}

    def _own_arguments(
        self, ids_BT: Tensor, labels_BT: Tensor | None, arguments: Mapping[str, Any], *, once: bool = False
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The batch as the model's own class takes it, and an image to run without weight where ranks need one.

        `once`: images that several slots show, or whose features are kept, are encoded here, see `encoded_once`.
        """
        rest = dict(arguments)
        segments = {name: rest.pop(name) for name in ("segment_ids", "prefix_ids") if name in rest}
        index_S = rest.pop("image_index", None)
        seen = split_images(
            {name: rest.pop(name) for name in flat_names(rest)}
        )  # else given as its own class takes them
        index = list(range(len(seen))) if index_S is None else index_S.tolist()
        once = once and (len(index) > len(seen) or (self.kept is not None and self.kept.active))
        can = once and bool(seen) and PIXELS in seen[0] and takes_features(type(self))
        encoded = encoded_once(self, seen, index) if can else None
        slots = [seen[image] for image in index]
        if encoded:  # only shapes are read of what was encoded
            slots = [{**image, PIXELS: image[PIXELS].to("meta")} for image in slots]
        images: dict[str, Any] = dict(self.family.join(slots)) if slots else {}
        if segments:
            self.check_packing()
            assert self.family.pack is not None, "checked"
            enable_packed_attention(self.text_model)
            rows = PackedRows(
                ids_BT=ids_BT,
                labels_BT=labels_BT,
                position_BT=rest.pop("position_ids"),
                segment_BT=segments["segment_ids"],
                prefix_BT=segments["prefix_ids"],
            )
            rest |= self.family.pack(self, rows, images)
        given = images or {name: rest[name] for name in ("pixel_values",) if name in rest}
        for name, value in self.family.more(self, ids_BT, labels_BT, given).items():
            if name in images:
                images[name] = value
            else:
                rest.setdefault(name, value)
        blank = {} if images or "pixel_values" in rest else self.blank_image(ids_BT.device)
        if encoded:
            del images[PIXELS]
            images[ENCODED] = encoded
        return {**rest, **images}, blank

    @contextmanager
    def _seeing(self, blank: Mapping[str, Tensor]) -> Iterator[None]:
        """Run an image without weight beside the next text, in the place where a batch with images runs its own:
        ranks gather the units of a sharded model in the same order.
        """
        if not blank:
            yield
            return
        features = self.family.features(self, blank) if self.family.sees_first else []

        def add(module: Any, inputs: Any, embeddings_BTD: Tensor) -> Tensor:
            hook.remove()
            for feature in features or self.family.features(self, blank):
                embeddings_BTD = embeddings_BTD + 0 * feature.sum().to(embeddings_BTD)
            return embeddings_BTD

        hook = self.get_input_embeddings().register_forward_hook(add)  # pyright: ignore[reportCallIssue]
        try:
            yield
        finally:
            hook.remove()

    @property
    def text_model(self) -> Any:
        """The language model, without its head where that is elsewhere; all but the head, where it is no module."""
        whole = (
            module
            for name, module in self.named_modules()
            if part_of(name) == "language_model" and isinstance(module, PreTrainedModel)
        )
        return next(whole, None) or self.base_model

    @functools.cached_property
    def _blank(self) -> dict[str, Tensor]:
        return self.view(Image.new("RGB", (32, 32)))

    def blank_image(self, device: torch.device) -> dict[str, Tensor]:
        """A black image in a text-only batch: every rank runs the same modules, whatever its batch holds."""
        if not self.training and not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {}
        return self.family.join(split_images({name: tensor.to(device) for name, tensor in self._blank.items()}))


def native_class(own: Any, base: type[Native] = Native) -> Any:
    """`own`, a model class of transformers, as a Native. It keeps its name, which checkpoints mention."""

    class Model(base, own):
        own_forward = own.forward

        @functools.wraps(own.forward)  # transformers reads the signature
        def forward(self, *args: Any, **arguments: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return self.run(functools.partial(own.forward, self), *args, **arguments)

    Model.__name__ = Model.__qualname__ = own.__name__
    return Model


def _has(model: PreTrainedModel, name: str) -> bool:
    try:
        attrgetter(name)(model)
    except AttributeError:
        return False
    return True


def override_settings(text: str, settings: Mapping[str, Any]) -> str:
    """A processor's JSON file with these settings of its image processor; as it is where it holds none."""
    content = parse_json(text, dict, "the image processor's settings", ModelError)
    holder = content if "image_processor_type" in content else content.get("image_processor")
    if holder is None:
        return text
    if "size" in settings:
        for name in OLD_SIZES:
            holder.pop(name, None)
    holder.update(settings)
    return json.dumps(content, indent=2) + "\n"
