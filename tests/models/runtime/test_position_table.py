"""An answer ends where the language model has no position left, the same in any batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mllm.errors import ConfigError, ModelError
from mllm.models.runtime.decoding import ContinuousBatcher
from mllm.registry import MODELS
from tests.models.every_language_model import tiny
from tests.models.tiny import VISION, make_tokenizer

LIMIT = 128
NO_END: dict[str, Any] = dict(max_new_tokens=20, eos_token_id=None, pad_token_id=0)


def make(name: str) -> Any:
    torch.manual_seed(0)
    parts: dict[str, Any] = {"vision_tower": dict(VISION["clip"]), "connector": "linear"}
    return MODELS.make({"type": "llava", "language_model": tiny(name), **parts}, tokenizer=make_tokenizer()).eval()


def prompts(*lengths: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 30, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = torch.stack([torch.arange(max(lengths)) >= max(lengths) - length for length in lengths]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
@pytest.mark.parametrize("name", ["gpt2", "gptj", "opt", "mpt"])
def test_generate_reads_to_the_last_position(name: str, options: dict[str, Any]) -> None:
    answer = make(name).generate(**prompts(LIMIT - 3), **NO_END, **options)
    assert answer.shape == (1, 4)  # the last is predicted at the last position, and never read


@pytest.mark.parametrize("name", ["gpt2", "gptj", "opt", "mpt"])
@pytest.mark.parametrize("evict", [False, True])
def test_rows_end_at_their_own_last_position(name: str, evict: bool) -> None:
    model = make(name)
    batcher = ContinuousBatcher(seed=0, evict_finished=evict and model.supports_prefix_sharing)
    batcher.generate(model, [0, 1, 2], {**prompts(LIMIT - 1, LIMIT - 9, LIMIT - 60), **NO_END})
    found = batcher.pop_finished()
    assert [len(found[row]) for row in range(3)] == [2, 10, 20]
    for row, length in enumerate((LIMIT - 1, LIMIT - 9, LIMIT - 60)):
        alone = {name: tensor[row : row + 1, -length:] for name, tensor in prompts(127, 119, 68).items()}
        assert model.generate(**alone, **NO_END)[0].tolist() == found[row]


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_generate_with_shared_prefix_ends_at_the_last_position(name: str) -> None:
    model = make(name)
    suffixes = prompts(2, 7)
    branches = dict(
        suffix_ids=suffixes["input_ids"], suffix_mask=suffixes["attention_mask"], suffix_prefix=torch.tensor([0, 0])
    )
    batcher = ContinuousBatcher(seed=0, evict_finished=True)
    batcher.generate(model, [0, 1], {**prompts(LIMIT - 8), **branches, **NO_END}, shared=True)
    assert {row: len(ids) for row, ids in batcher.pop_finished().items()} == {0: 7, 1: 2}


def test_a_prompt_beyond_the_table_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected prompts of at most 128 tokens, .* found 129"):
        make("gpt2").generate(**prompts(LIMIT + 1), **NO_END)


def test_other_stopping_criteria_still_end_an_answer() -> None:
    answer = make("gpt2").generate(**prompts(LIMIT - 9), **NO_END, stopping_criteria=[lambda ids, _: ids[:, -1] > -1])
    assert answer.shape == (1, 1)


@pytest.mark.parametrize("name", ["rwkv", "xlstm"])
def test_beams_of_a_model_whose_state_cannot_be_reordered_are_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"gen_kwargs.num_beams: expected 1, since .* {name}, found 2"):
        ContinuousBatcher(seed=0).generate(make(name), [0], {**prompts(3), **NO_END, "num_beams": 2})
