"""The numbers of TRL 1.16's GRPOTrainer on tiny models, and the same models as ours, fed by our collator."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mllm.config.reward_args import RewardArgs
from mllm.conversation.collator import Collator
from mllm.images import ImageRef, image_ref
from mllm.models.llava.transformers_layout import load_llava
from mllm.models.runtime.loss import LanguageOutput, Scoring, labelled_loss
from mllm.models.runtime.packed_attention import enable_packed_attention, mask_arguments
from mllm.models.runtime.packed_mask import PackedAttentionMask
from mllm.types import EncodedSample
from tests.models.llava_names import our_name

FIXTURE = next(
    (path for folder in Path(__file__).parents if (path := folder / "shared" / "parity" / "grpo.pt").exists()), None
)
KINDS = ("llama", "llava")
GROUP, LONGEST, END = 4, 12, 2


@cache
def fixture() -> dict[str, Any]:
    assert FIXTURE is not None
    return torch.load(FIXTURE, weights_only=True)


def cases(kind: str) -> dict[str, Any]:
    return fixture()["models"][kind]["cases"]


def args_of(options: dict[str, Any]) -> RewardArgs:
    return RewardArgs(
        rewards={"iou": "BoxIoU", "form": "Readable"},
        reward_weights={"form": 0.5},
        num_generations=GROUP,
        max_completion_length=LONGEST,
        **options,
    )


def rewards() -> Tensor:
    """[answers, rewards]"""
    found = fixture()["rewards"]
    return torch.tensor([found["iou"], found["form"]]).T


class Text(torch.nn.Module):
    """A language model alone, called as our models are."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = LlamaForCausalLM(LlamaConfig(**fixture()["text_config"], attn_implementation="sdpa"))

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        scoring: Scoring,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        prefix_ids: Tensor | None = None,
    ) -> LanguageOutput:
        packed = None
        if segment_ids is not None and prefix_ids is not None:
            enable_packed_attention(self.inner)
            packed = PackedAttentionMask(segment_ids, prefix_ids)
        places = {"attention_mask": attention_mask, "position_ids": position_ids, **mask_arguments(packed)}
        run = partial(self.inner, input_ids=input_ids, use_cache=False, **places)
        return labelled_loss(self.inner, run, labels, num_items_in_batch=None, return_logits=False, scoring=scoring)


def model_of(kind: str, folder: Path) -> Any:
    """A model with the parameters of the policy, all of them trained."""
    recorded = fixture()["models"][kind]
    if kind == "llama":
        text = Text()
        text.inner.load_state_dict(recorded["state_dict"])
        return text
    config = {
        **fixture()["llava_config"],
        "model_type": "llava",
        "text_config": {"model_type": "llama", **fixture()["text_config"]},
        "vision_config": {"model_type": "clip_vision_model", **fixture()["vision_config"]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    state = {name: tensor.contiguous() for name, tensor in recorded["state_dict"].items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    model = load_llava(str(folder))
    model.freeze([])
    return model


def name_of(name: str, kind: str, model: Any) -> str:
    """What we call a parameter of theirs."""
    return f"inner.{name}" if kind == "llama" else our_name(name, model)


def load(model: Any, state: dict[str, Tensor], kind: str) -> None:
    model.load_state_dict({name_of(name, kind, model): tensor for name, tensor in state.items()}, strict=False)


def batch_of(kind: str, answers: list[int], packing: str) -> dict[str, Any]:
    """These answers behind their prompts, and in `order` the number of the answer that each label is of."""
    recorded = fixture()["models"][kind]
    inputs = recorded["inputs"]
    groups: dict[int, list[EncodedSample]] = {}
    for number in answers:
        prompt = inputs["prompt_ids"][number][inputs["prompt_mask"][number].bool()]
        answer = torch.tensor(fixture()["completions"][number])
        pixels: tuple[dict[str, Tensor], ...] = ()
        refs: tuple[ImageRef, ...] = ()
        if kind == "llava":
            pixels = ({"pixels": recorded["pixel_values_per_prompt"][number // GROUP][None]},)
            refs = (image_ref(f"{number // GROUP}.png", None),)
        sample = EncodedSample(
            key=str(number),
            index=number,
            input_ids=torch.cat([prompt, answer]),
            labels=torch.cat([torch.full_like(prompt, -100), answer]),
            images=refs,
            pixels=pixels,
            images_end=4 if refs else 0,
            image_starts=(0,) if refs else (),
            source=number,
        )
        groups.setdefault(number // GROUP, []).append(sample)
    batch: dict[str, Any] = dict(Collator(pad_token_id=0, packing=packing)(list(groups.values())))  # type: ignore[arg-type]
    del batch["index"]
    return batch


def scored(model: Any, kind: str, answers: list[int], packing: str, scoring: Scoring) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies, the tokens of an answer side by side, the answers in their order."""
    batch = batch_of(kind, answers, packing)
    order = batch.pop("label_sources").argsort(stable=True)
    found = model(**batch, scoring=scoring)
    return found.log_probs[order], found.entropies[order]
