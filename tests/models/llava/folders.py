"""LLaVA folders of transformers, and models that must be the same after a way through them."""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

from mllm.models.llava.model import Llava
from tests.marks import grid
from tests.models.tiny import TEXT, VISION, make_batch

FAMILIES = grid(["clip", "siglip", "dinov2"], ["llama", "qwen2", "gpt_neox", "gemma2"])


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Overwrite tensors of a folder's weights; None removes one."""
    path = folder / "model.safetensors"
    state = {**load_file(path), **tensors}
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, path, {"format": "pt"})


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def assert_same(a: Llava, b: Llava) -> None:
    batch = make_batch(a)
    torch.testing.assert_close(
        a(**batch, return_logits=True).logits, b(**batch, return_logits=True).logits, rtol=0, atol=0
    )
    state = b.state_dict()
    assert a.state_dict().keys() == state.keys()
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def reference(vision: str, text: str, **changes) -> LlavaForConditionalGeneration:
    """transformers' own, with random weights."""
    torch.manual_seed(2)
    cap = {"final_logit_softcapping": None} if text == "gemma2" else {}
    config = transformers.LlavaConfig(
        vision_config=VISION[vision],
        text_config={"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, **TEXT[text], **cap},
        image_token_index=39,
        **{"vision_feature_select_strategy": "full" if vision == "siglip" else "default", **changes},
    )
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def of_reference(batch: dict) -> dict:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels") if name in batch}
    return {**inputs, "pixel_values": batch["pixels"][batch["image_index"]]}
