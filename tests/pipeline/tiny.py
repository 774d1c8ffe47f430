"""A run so small that a test can afford it: generated scenes, a LLaVA of a few thousand weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mllm.registry import MODELS
from mllm.types import Item
from tests.conftest import make_tokenizer

SCENES = dict(type="Scenes", size=32, objects=[2, 3])
CONFIG: dict[str, Any] = dict(
    training_args=dict(
        use_cpu=True,
        max_steps=4,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=3,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        seed=0,
    ),
    model_args=dict(
        type="llava",
        vision_tower=dict(
            model_type="clip_vision_model",
            image_size=32,
            patch_size=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        ),
        connector="linear",
        feature_layer=-1,
        language_model=dict(
            model_type="llama",
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=512,
        ),
        tokenizer=dict(vocab_size=400),
        codec=dict(type="bins", bins=17),
        template=dict(type="vicuna_v1", system=""),
    ),
    data_args=dict(
        train=dict(SCENES, count=40),
        validation=dict(SCENES, count=7, seed=1),
        test=dict(SCENES, count=5, seed=2),
        multitest=dict(
            boxes=dict(cfg=dict(SCENES, count=4, seed=3)),
            numbers=dict(cfg=dict(SCENES, count=4, seed=3, tasks=["count"]), compute_metric=dict(type="ExactMatch")),
        ),
        compute_metric=dict(type="REC", constant_box=True),
        gen_kwargs=dict(max_new_tokens=8),
    ),
)


def write_config(folder: Path, **sections: dict[str, Any]) -> Path:
    """A config file with `sections` merged over CONFIG, one level deep."""
    path = folder / "tiny.py"
    merged = {name: {**values, **sections.get(name, {})} for name, values in CONFIG.items()}
    path.write_text("\n".join(f"{name} = {values!r}" for name, values in merged.items()), encoding="utf-8")
    return path


STAND_INS: dict[str, dict[str, Any]] = {
    "llava": {name: CONFIG["model_args"][name] for name in ("vision_tower", "connector", "language_model")},
    "seq2seq": {
        "language_model": dict(
            model_type="t5",
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    },
}
"""Parts of a tiny model of each type whose configs name the folder of a real one."""


def save_stand_in(folder: Path, model_type: str = "llava") -> None:
    """A folder of a whole model with its tokenizer, as `mllm train` leaves it."""
    tokenizer = make_tokenizer()
    parts = {"type": model_type, **STAND_INS[model_type]}
    MODELS.make(parts, tokenizer=tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def losses(folder: Path, name: str = "loss") -> dict[int, float]:
    """Training loss by step, or what else the log that a run leaves says of a step."""
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry[name] for entry in history if name in entry}


class Items:
    """A dataset of these."""

    def __init__(self, items: list[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]

    def set_epoch(self, epoch: int | None) -> None:
        pass
