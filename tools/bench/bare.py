"""A bare loop over transformers' own LLaVA, for `train.py`: what the same computation costs with nothing around it.

    OMP_NUM_THREADS=1 python tools/bench/bare.py /tmp/mixed --packed --labelled --keep-memory

The same samples in the same order as this toolkit's trainer draws them, with its optimizer, schedule and clipping, so
that the losses are the same too. Questions are tokenised beforehand; images are read and the rows put together in
the loop. `--packed`: the samples of a step in one row, each attending to itself by a call of its own. `--labelled`: the
head runs where there is a label. `--keep-memory`: what is freed is kept, as this toolkit does on a CPU.

Shape suffixes: B rows, T tokens, D width, N labelled tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface, AutoTokenizer, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mllm.pipeline.allocation import keep_freed_memory

IGNORE = -100
IMAGE = "<image>"
WARM_UP = 3
"""Steps before the clock starts."""
SEED = 42
"""Of the trainer, and with the number of the epoch that of its order."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--samples", type=int, default=8, help="of a step")
    parser.add_argument("--steps", type=int, default=19)
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--labelled", action="store_true")
    parser.add_argument("--keep-memory", action="store_true")
    given = parser.parse_args()
    if given.keep_memory:
        keep_freed_memory()
    print(json.dumps(Loop(given).run()))


class Loop:
    def __init__(self, given: argparse.Namespace) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self.given = given
        folder = f"{given.fixture}/model"
        self.model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model.model.vision_tower.requires_grad_(False)
        self.model.train()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        side = self.model.config.vision_config.image_size
        self.images: Any = CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
        if given.packed:
            AttentionInterface.register("samples_apart", self.attend)
            self.model.model.language_model.set_attn_implementation("samples_apart")
        self.lengths: list[int] = []

    def run(self) -> dict[str, Any]:
        given = self.given
        records = json.loads(Path(given.fixture, "llava.json").read_text(encoding="utf-8"))
        samples = [(*self.encode(record), f"{given.fixture}/{record['image']}") for record in records]
        order = np.random.default_rng([SEED, 0]).permutation(len(samples)).tolist()
        if given.steps * given.samples > len(samples):
            raise SystemExit(f"{given.fixture}: {len(samples)} samples are not enough for {given.steps} steps")
        optimizer = torch.optim.AdamW(self.trained, lr=1e-3, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / given.steps)
        losses: list[float] = []
        tokens = start = cpu_start = 0
        for step in range(given.steps):
            if step == WARM_UP:
                tokens, start, cpu_start = 0, time.perf_counter(), time.process_time()
            chosen = [samples[number] for number in order[step * given.samples : (step + 1) * given.samples]]
            loss = self.loss(chosen)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens += sum(len(ids) for ids, _, _ in chosen)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        return {
            "sec": seconds,
            "cpu_sec": cpu,
            "samples_per_s": (given.steps - WARM_UP) * given.samples / seconds,
            "nonpad_tok_per_cpu_s": tokens / cpu,
            "loss_first": losses[0],
            "loss_last": losses[-1],
        }

    def encode(self, record: dict[str, Any]) -> tuple[list[int], list[int]]:
        """The ids of a conversation of one question, and its labels."""
        asked, answered = (turn["value"] for turn in record["conversations"])
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        whole = self.tokenizer.apply_chat_template(turns, tokenize=False)
        prompt = self.tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        slots = IMAGE * self.model.config.image_seq_length
        before, after = (
            self.tokenizer(text.replace(IMAGE, slots), add_special_tokens=False)["input_ids"]
            for text in (prompt, whole.removeprefix(prompt))
        )
        return before + after, [IGNORE] * len(before) + after

    def loss(self, samples: list[tuple[list[int], list[int], str]]) -> Tensor:
        images = [Image.open(path).convert("RGB") for _, _, path in samples]
        pixels = self.images(images, return_tensors="pt")["pixel_values"]
        batch = self.row(samples) if self.given.packed else self.rows(samples)
        labels_BT = batch.pop("labels")
        hidden_BTD = self.model.model(pixel_values=pixels, use_cache=False, **batch).last_hidden_state
        next_BT = torch.nn.functional.pad(labels_BT[:, 1:], (0, 1), value=IGNORE)
        if self.given.labelled:
            labelled_BT = next_BT != IGNORE
            return cross_entropy(self.model.lm_head(hidden_BTD[labelled_BT]), next_BT[labelled_BT])
        return cross_entropy(self.model.lm_head(hidden_BTD).flatten(0, 1), next_BT.flatten(), ignore_index=IGNORE)

    def rows(self, samples: list[tuple[list[int], list[int], str]]) -> dict[str, Any]:
        """One row for each sample, padded to the longest."""
        pad = torch.nn.utils.rnn.pad_sequence
        return {
            "input_ids": pad([torch.tensor(ids) for ids, _, _ in samples], True, float(self.tokenizer.pad_token_id)),
            "labels": pad([torch.tensor(labels) for _, labels, _ in samples], True, float(IGNORE)),
            "attention_mask": pad([torch.ones(len(ids), dtype=torch.long) for ids, _, _ in samples], True),
        }

    def row(self, samples: list[tuple[list[int], list[int], str]]) -> dict[str, Any]:
        """All samples in one row; the first token of none is predicted, as it is never labelled."""
        self.lengths = [len(ids) for ids, _, _ in samples]
        return {
            "input_ids": torch.tensor([[number for ids, _, _ in samples for number in ids]]),
            "labels": torch.tensor([[label for _, labels, _ in samples for label in labels]]),
            "position_ids": torch.cat([torch.arange(length) for length in self.lengths])[None],
        }

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        parts = zip(*(whole.split(self.lengths, dim=2) for whole in (query, key, value)), strict=True)
        outputs = [scaled_dot_product_attention(q, k, v, is_causal=True) for q, k, v in parts]
        return torch.cat(outputs, dim=2).transpose(1, 2), None


if __name__ == "__main__":
    main()
