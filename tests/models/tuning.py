"""What of a model is trained, and training it a little."""

from __future__ import annotations

import json

import torch


def disturb(model, seed=3):
    """As training would: what is trained moves, the low-rank matrices from zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def trained(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def layers(model) -> set[str]:
    return {name.partition(".lora_A")[0] for name in trained(model) if ".lora_A" in name}


def tuning_config(folder, **changes) -> str:
    """As Instruct-Flamingo's `lora[lm+xqttn]+perceiver` has it, with the connector in the perceiver's place."""
    found = {
        "lora": True,
        "from_pretrained": None,
        "lora_target_modules": ["Wqkv", "q_proj", "v_proj", "to_q", "to_kv", "ff.1", "ff.3"],
        "lora_r": 128,
        "lora_alpha": 64,
        "lora_dropout": 0.1,
        "unfrozen": ["connector"],
    }
    path = folder / "tuning.json"
    path.write_text(json.dumps({**found, **changes}))
    return str(path)
