"""`tokenization_auto`, `generate_merges` and the sizes of three image processors."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import (
    Glm4vImageProcessorPil,
    Idefics2ImageProcessorPil,
    PixtralImageProcessorPil,
    Qwen2VLImageProcessorPil,
)

from mllm.compat import transformers_files as compat


def test_tokenizer_of_a_model_type() -> None:
    assert compat.tokenizer_of("gpt2") == "GPT2Tokenizer"
    assert compat.tokenizer_of("no such model") is None


def test_is_tokenizer_class_knows_transformers_classes_alone() -> None:
    assert compat.is_tokenizer_class("LlamaTokenizer")
    assert not compat.is_tokenizer_class("NoSuchTokenizer")


def test_merges_of_come_in_the_order_of_the_scores() -> None:
    vocabulary = {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5}
    scores = dict.fromkeys(vocabulary, 0.0) | {"ab": -2.0, "bc": -1.0, "abc": -3.0}
    merges = [tuple(merge) for merge in compat.merges_of(vocabulary, scores)]
    assert merges[:2] == [("b", "c"), ("a", "b")]


def test_size_in_patches_gives_multiples_within_the_bounds() -> None:
    limits = {"shortest_edge": 56 * 56, "longest_edge": 100_000}
    for kind in (Qwen2VLImageProcessorPil, Glm4vImageProcessorPil):
        processor = kind(size=limits)
        assert compat.size_in_patches(processor, 100, 200) == (112, 196)
        height, width = compat.size_in_patches(processor, 1000, 2000)
        assert height * width <= 100_000
        assert height % 28 == width % 28 == 0


def test_size_in_multiples_keeps_to_the_bounds() -> None:
    """`smart_resize` of Qwen2-VL's image processor for PIL."""
    assert compat.size_in_multiples(100, 200, factor=28, least=3136, most=1_000_000) == (112, 196)
    height, width = compat.size_in_multiples(1000, 2000, factor=28, least=3136, most=100_000)
    assert height * width <= 100_000
    with pytest.raises(ValueError, match="absolute aspect ratio"):
        compat.size_in_multiples(1, 1000, factor=28, least=3136, most=100_000)


def test_size_within_shrinks_to_the_longest_edge() -> None:
    blank = np.zeros((3, 50, 100), dtype=np.uint8)
    pixtral = PixtralImageProcessorPil(size={"longest_edge": 40}, patch_size=8)
    assert compat.size_within(pixtral, blank) == (24, 40)
    idefics2 = Idefics2ImageProcessorPil(size={"shortest_edge": 10, "longest_edge": 40})
    assert compat.size_within(idefics2, blank) == (20, 40)


def test_grid_of_tiles_is_columns_by_rows() -> None:
    assert compat.grid_of_tiles(100, 300, tile=(100, 100), least=1, most=3) == (3, 1)


def test_size_by_longest_side_keeps_the_ratio() -> None:
    height, width = compat.size_by_longest_side(np.zeros((3, 50, 100), dtype=np.uint8), 40)
    assert (height, width) == (20, 40)
