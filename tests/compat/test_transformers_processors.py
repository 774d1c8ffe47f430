"""`MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES` and those of language models, `PROCESSOR_MAPPING_NAMES`,
`processor_class_from_name`, `check_argument_for_proper_class`, `create_mm_token_type_ids` and
`_get_num_multimodal_tokens`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, CLIPProcessor, Qwen2VLProcessor
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

from mllm.compat import transformers_processors as compat
from mllm.compat.transformers_files import size_within
from tests.models.tiny_hf import make_image_processor, make_tokenizer


def test_sees_images_knows_types_of_image_text_to_text() -> None:
    assert compat.sees_images("qwen2_vl")
    assert not compat.sees_images("llama")
    assert not compat.sees_images(None)


def test_answers_text_knows_language_models_of_both_kinds() -> None:
    assert compat.answers_text("llama", from_text=False)
    assert not compat.answers_text("llama", from_text=True)
    assert compat.answers_text("t5", from_text=True)
    assert not compat.answers_text(None, from_text=False)


def test_processor_class_goes_by_name_before_type() -> None:
    assert compat.processor_class("Qwen2VLProcessor", "clip") is Qwen2VLProcessor
    assert compat.processor_class(None, "clip") is CLIPProcessor
    assert compat.processor_class(None, "llama") is None


def test_make_processor_does_without_a_video_processor(tmp_path: Path) -> None:
    make_tokenizer("qwen2_vl").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    images = make_image_processor("qwen2_vl")
    made = compat.make_transformers_processor(
        Qwen2VLProcessor, str(tmp_path), tokenizer=tokenizer, image_processor=images
    )
    assert type(made) is Qwen2VLProcessor
    assert made.video_processor is None
    assert b"Qwen2VLProcessor" in pickle.dumps(made)
    assert compat.tokens_of_images(made, (48, 24)) == 6 * 3


def test_with_marks_makes_those_that_a_forward_pass_asks_for_and_a_processor_left_out(tmp_path: Path) -> None:
    made_of = make_tokenizer("qwen2_vl")
    made_of.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    images = make_image_processor("qwen2_vl")
    processor = compat.make_transformers_processor(
        Qwen2VLProcessor, str(tmp_path), tokenizer=tokenizer, image_processor=images
    )
    ids = torch.tensor([[5, processor.image_token_id, 5]])

    def asks(input_ids: Any, mm_token_type_ids: Any = None) -> None: ...

    assert compat.with_marks({"input_ids": ids}, processor, asks)["mm_token_type_ids"].tolist() == [[0, 1, 0]]
    assert "mm_token_type_ids" not in compat.with_marks({"input_ids": ids}, processor, lambda input_ids: None)


def test_tokens_of_images_is_none_where_the_processor_does_not_count() -> None:
    assert compat.tokens_of_images(object(), (48, 24)) is None


def test_as_called_has_pixtral_make_whole_blocks_of_merged_patches() -> None:
    class PixtralProcessor:
        patch_size = 14
        spatial_merge_size = 2

    plain = PixtralImageProcessorPil(size={"longest_edge": 1540}, patch_size={"height": 14, "width": 14})
    asked = compat.as_called(PixtralProcessor(), plain)
    assert size_within(asked, np.zeros((3, 500, 30), np.uint8)) == (504, 56)
    assert size_within(plain, np.zeros((3, 500, 30), np.uint8)) == (504, 42)
    assert compat.as_called(None, plain) is plain
