"""What a family of transformers' vision language models does its own way, and its processor cannot be asked.

Families live in `families/`, one file each, registered under the `model_type` of their config.json. A type without a
file is a `generic` family, which `self_check` lets run where it proves what is assumed of it.

Shape suffixes: B rows, T tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mllm.compat.transformers_processors import sees_images
from mllm.errors import ConfigError, ModelError
from mllm.fields import show
from mllm.files import read_json
from mllm.geometry import Placement
from mllm.models.native.once import features_of
from mllm.models.native.placing import Size, placed
from mllm.models.native.positions import TOKEN_TYPES, PackedRows, as_the_model_counts
from mllm.models.native.tensors import Tensors, join_images
from mllm.registry import FAMILIES

ROPE = ("model.rope_deltas", "rope_deltas")
"""Where models of Qwen-VL's kind remember how much farther than its tokens an image reaches in positions."""


UNFIT = {
    "diffusion_gemma": "writes all of an answer at once, by diffusion",
    "evolla": "reads proteins, no images",
    "kosmos-2.5": "sees every image in brightnesses of its own, so that painted ones do not prove where it sees them",
    **dict.fromkeys(
        ("minicpm_ocr", "minicpmv4_6", "minicpmv4_7"),
        "sees an image as one strip of patches of several sizes, in which its paint cannot be found yet",
    ),
    "mistral4": "sees no images; type 'causal_lm' reads it",
    "pi0": "gives the actions of a robot, no text",
    "pix2struct": "reads its question in the picture itself",
    "pp_chart2table": "turns a chart into a table, and takes no question",
    "pp_formulanet": "transcribes a formula, and takes no question",
    "shieldgemma2": "says whether an image breaks a rule, and writes no text",
    "t5gemma2": "reads images in an encoder whose decoder is none of mllm's",
    "udop": "wants the words of a page with their places, from another program",
    "vision-encoder-decoder": "transcribes an image, and takes no question",
}
"""Types of AutoModelForImageTextToText that cannot be asked about an image here, and why."""


def image_marks(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors) -> dict[str, Tensor]:
    """Where images are in the text, under the names by which the model wants it or its processor tells it."""
    wanted = {TOKEN_TYPES} & inspect.signature(model.own_forward).parameters.keys()
    return {name: model.image_marks(ids_BT) for name in sorted({*model.view.types, *wanted})}


def none_more(config: PreTrainedConfig) -> dict[str, object]:
    return {}


def as_loaded(model: PreTrainedModel) -> None:
    pass


def image_features(model: PreTrainedModel, images: Tensors) -> list[Tensor]:
    """Everything that the vision tower and the connector make of images."""
    made = features_of(model, images)
    layers = getattr(made, "deepstack_features", None) or []
    return _flat([getattr(made, "pooler_output", None), *layers])


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What is left out is asked of the family's own processor, or found in the model; `mllm model check` proves it.

    Functions are those of a module, not lambdas: the view that holds them goes to data loading workers.

    Attributes:
        codec: the region codec that the family was trained on; for a family that speaks no boxes the plainest.
        template: of its conversations.
        place: (image processor, size) -> where the processor puts an image of that size, from the size alone.
        beside: attributes in which the model remembers a row of each prompt beside its cache, where it has them; None:
            prompts cannot share a beginning, since what follows changes how it is read.
        pack: (model, rows, images) -> the arguments by which packed rows do not mix, before those of `more`; None: it
            computes positions or masks of its own, which would.
        more: (model, ids, labels or None, images) -> further arguments that follow from the text, and arguments of
            the images in another layout, where their rows count.
        join: tensors of each image of a batch -> the model's arguments.
        between: a mark before and behind images, once between two; '': its processor writes none, or one for each side.
        spaced: whether a space parts that mark from a word right behind it.
        token: marks an image in the rendered text; None: its processor says it.
        placeholder_tokens: (config, image processor, size) -> the text that replaces `token`; None: the processor is
            asked. A family that says it needs no processor but the image processor.
        settings: config -> settings with which the family's processor calls its image processor, where it is not asked.
        features: (model, images) -> features, for images that only keep ranks in step.
        opened: whether the family's processor begins every prompt with the first token of a text by itself.
        sees_first: whether the model reads images before it embeds the text.
        prepare: changes a model that was just loaded.
        listed: whether it has a file; one that has none runs only if its self-check passes.
    """

    codec: str
    template: str = "chat"
    place: Callable[[Any, Size], Placement] = placed
    beside: tuple[str, ...] | None = ROPE
    pack: Callable[[Any, PackedRows, Tensors], dict[str, object]] | None = as_the_model_counts
    more: Callable[[Any, Tensor, Tensor | None, Tensors], dict[str, Tensor]] = image_marks
    join: Callable[[Sequence[Tensors]], dict[str, Tensor]] = join_images
    between: str = ""
    spaced: bool = False
    token: str | None = None
    placeholder_tokens: Callable[[Any, Any, Size], str] | None = None
    settings: Callable[[Any], Mapping[str, Any]] = none_more
    features: Callable[[Any, Tensors], list[Tensor]] = image_features
    opened: bool = False
    sees_first: bool = False
    prepare: Callable[[Any], None] = as_loaded
    listed: bool = True


def family_of(folder: str) -> Family:
    """The family of a checkpoint folder; a generic one for a type of transformers that has no file.

    Raises:
        ConfigError: transformers knows no vision language model of its type.
    """
    path = Path(folder) / "config.json"
    model_type = read_json(path, dict, ModelError).get("model_type")
    if is_listed(model_type):
        return FAMILIES.find(model_type)()
    if model_type in UNFIT:
        raise ConfigError(
            where=str(path),
            field="model_type",
            expected="one that answers questions about images",
            found=f"{model_type}, which {UNFIT[model_type]}",
        )
    if not sees_images(model_type):
        raise ConfigError(
            where=str(path),
            field="model_type",
            expected="one that transformers' AutoModelForImageTextToText knows",
            found=show(model_type),
        )
    return generic()


def is_listed(model_type: object) -> bool:
    """Whether a type has a family file."""
    return model_type in FAMILIES.names()


def family_file(model_type: str) -> str:
    """Where the family of a type is, or would be, written."""
    return f"mllm/models/native/families/{model_type.replace('-', '_').replace('.', '_')}.py"


def generic() -> Family:
    """Of a type without a file: boxes are spoken as Shikra writes them, all else is asked."""
    return Family(codec="shikra", listed=False)


def _flat(features: object) -> list[Tensor]:
    """The tensors among these; beside them may be the numbers of the layers that they are for."""
    if isinstance(features, (list, tuple)):
        return [tensor for part in features for tensor in _flat(part)]
    return [features] if isinstance(features, Tensor) else []
