"""transformers' processors, an image processor and a tokenizer in one, built without what videos and sound need."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from transformers import AutoTokenizer

from mllm.compat.names import member, replaces

ABSENT = ("video_processor", "feature_extractor", "audio_processor")
"""Parts of a processor that images and text do without."""


def sees_images(model_type: object) -> bool:
    """Whether `AutoModelForImageTextToText` knows a model type."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def answers_text(model_type: object, *, from_text: bool) -> bool:
    """Whether a model type is a language model of `AutoModelForCausalLM`; `from_text`: of `AutoModelForSeq2SeqLM`."""
    from transformers.models.auto import modeling_auto

    kind = "SEQ_TO_SEQ_CAUSAL_LM" if from_text else "CAUSAL_LM"
    return model_type in getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES")


def processor_class(name: str | None, model_type: str) -> Any:
    """The processor class of this name, else of a model type; None: transformers has none."""
    from transformers.models.auto import processing_auto

    chosen = name or processing_auto.PROCESSOR_MAPPING_NAMES.get(model_type)
    return None if chosen is None else member(processing_auto, "processor_class_from_name")(chosen)


def make_transformers_processor(kind: Any, folder: str, *, tokenizer: Any, image_processor: Any) -> Any:
    """A processor of this class with the settings of a folder.

    `AutoProcessor` reads every part, and a video processor wants torchvision. The parts that images do without are
    None here, which only a class that checks nothing takes.
    """
    settings, _ = kind.get_processor_dict(folder, local_files_only=True)
    parts: list[Any] = []
    for name in kind.get_attributes():
        if name in ("tokenizer", "image_processor"):
            parts.append(tokenizer if name == "tokenizer" else image_processor)
        elif name in ABSENT:
            parts.append(None)
        else:
            parts.append(
                AutoTokenizer.from_pretrained(folder, subfolder=name, local_files_only=True, trust_remote_code=False)
            )
    made = _unchecked(kind).from_args_and_dict(parts, settings)
    made.__class__ = kind  # by which it is pickled
    return made


def _unchecked(kind: Any) -> Any:
    class Unchecked(kind):
        @replaces(kind)
        def check_argument_for_proper_class(self, argument_name: str, argument: object) -> Any:
            return type(argument)

    return Unchecked


def with_marks(made: Any, processor: Any, forward: Any) -> Any:
    """What a processor made of a text, with the marks of images that the model's forward pass asks for.

    Some processors make them only if they are told to (Cosmos 3 Edge).
    """
    wanted = "mm_token_type_ids"
    if wanted in inspect.signature(forward).parameters and wanted not in made:
        made[wanted] = torch.tensor(processor.create_mm_token_type_ids(made["input_ids"].tolist()))
    return made


def as_called(processor: Any, image_processor: Any) -> Any:
    """The image processor with the settings that its processor calls it with: Pixtral's asks for whole blocks of the
    patches that Mistral 3 merges.
    """
    if type(processor).__name__ != "PixtralProcessor":
        return image_processor
    block = processor.patch_size * processor.spatial_merge_size
    asked = copy.copy(image_processor)
    asked.patch_size = {"height": block, "width": block}
    return asked


def tokens_of_images(processor: Any, size: tuple[int, int]) -> int | None:
    """How many tokens an image of `size` takes, from the size alone; None: the processor does not say.

    Tokens around those of features are counted by some processors and not by others.
    """
    count = getattr(processor, "_get_num_multimodal_tokens", None)
    if count is None:
        return None
    try:
        found = count(image_sizes=[(size[1], size[0])]).num_image_tokens
    except (AttributeError, KeyError, TypeError, NotImplementedError):
        return None  # processors of some classes count by settings that others have
    return int(found[0]) if found else None
