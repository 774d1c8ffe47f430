"""A bare loop over transformers' own LLaVA, for `reward.py`: what a GRPO step costs with nothing around it, if the
image and the beginning that all questions have in common are read once in the rollout and once in the update.

    OMP_NUM_THREADS=1 python tools/bench/reward_bare.py DIR

The update is one row: the common beginning, and behind it each question with its answers, under a mask that shows every
token what comes before it on its own way from the beginning. The head runs where a token of an answer is predicted.
One JSON line: samples, and seconds of process CPU time for a step and its rollout.

Shape suffixes: B rows, T tokens, D width, Q questions, G answers of a question, N tokens of an answer, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, DynamicCache, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mllm.pipeline.allocation import keep_freed_memory

IMAGE = "<image>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that reward.py wrote")
    parser.add_argument("--answers", type=int, default=8, help="of each question")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    given = parser.parse_args()
    keep_freed_memory()
    print(json.dumps(Loop(given).run()))


class Loop:
    def __init__(self, given: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.given = given
        folder = f"{given.fixture}/model"
        self.model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model.model.vision_tower.requires_grad_(False)
        self.text: Any = self.model.model.language_model
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.image_id = self.model.config.image_token_id
        side = self.model.config.vision_config.image_size
        self.view: Any = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=0.0, fused=True)

    def run(self) -> dict[str, Any]:
        given = self.given
        records = json.loads(Path(given.fixture, "questions.json").read_text(encoding="utf-8"))
        images = list(dict.fromkeys(record["image"] for record in records))
        times: list[tuple[float, float, float]] = []
        samples = 0
        for step in range(given.steps):
            start = time.process_time()
            name = images[step % len(images)]
            prompts = [self.encode(record) for record in records if record["image"] == name]
            pixels = self.view([Image.open(f"{given.fixture}/{name}").convert("RGB")], return_tensors="pt")
            prefix_P, rests = parted(prompts)
            self.model.eval()
            answers_BN = self.rollout(prefix_P, rests, pixels["pixel_values"])
            middle = time.process_time()
            self.model.train()
            self.update(prefix_P, rests, pixels["pixel_values"], answers_BN)
            times.append((start, middle, time.process_time()))
            samples = len(answers_BN)
        timed = times[given.warm_up :]
        return {
            "samples": samples,
            "cpu_sec": sum(end - start for start, _, end in timed) / len(timed),
            "rollout_cpu_sec": sum(middle - start for start, middle, _ in timed) / len(timed),
        }

    def encode(self, record: dict[str, Any]) -> Tensor:
        turns = [{"role": "user", "content": record["conversations"][0]["value"]}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        text = text.replace(IMAGE, IMAGE * self.model.config.image_seq_length)
        return torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def embedded(self, ids_T: Tensor, pixels: Tensor) -> Tensor:
        text_BTD = self.model.get_input_embeddings()(ids_T[None])
        features = torch.cat(list(self.model.get_image_features(pixels).pooler_output))
        return text_BTD.masked_scatter((ids_T == self.image_id)[None, :, None], features)

    @torch.no_grad()
    def rollout(self, prefix_P: Tensor, rests: list[Tensor], pixels: Tensor) -> Tensor:
        """Answers of each question together, [QG, N]."""
        cache = DynamicCache()
        self.text(inputs_embeds=self.embedded(prefix_P, pixels), past_key_values=cache)
        cache.batch_repeat_interleave(len(rests))
        longest = max(map(len, rests))
        ids = [torch.nn.functional.pad(rest, (longest - len(rest), 0)) for rest in rests]
        seen = [torch.nn.functional.pad(torch.ones_like(rest), (longest - len(rest), 0)) for rest in rests]
        mask = torch.cat([torch.ones(len(rests), len(prefix_P), dtype=torch.long), torch.stack(seen)], 1)
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, len(prefix_P) :]
        hidden_BTD = self.text(
            input_ids=torch.stack(ids), attention_mask=mask, position_ids=places, past_key_values=cache
        ).last_hidden_state[:, -1:]
        cache.batch_repeat_interleave(self.given.answers)
        hidden_BTD, mask, place = (
            each.repeat_interleave(self.given.answers, 0) for each in (hidden_BTD, mask, places[:, -1:])
        )
        found: list[Tensor] = []
        while True:
            logits_BV = self.model.lm_head(hidden_BTD[:, -1])
            logits_BV[:, [self.image_id, self.tokenizer.eos_token_id]] = -torch.inf
            found.append(torch.multinomial(logits_BV.softmax(-1), 1))
            if len(found) == self.given.new_tokens:
                return torch.cat(found, 1)
            mask, place = torch.cat([mask, mask.new_ones(len(mask), 1)], 1), place + 1
            hidden_BTD = self.text(
                input_ids=found[-1], attention_mask=mask, position_ids=place, past_key_values=cache
            ).last_hidden_state

    def update(self, prefix_P: Tensor, rests: list[Tensor], pixels: Tensor, answers_BN: Tensor) -> None:
        answers = self.given.answers
        rewards = torch.tensor([worth(text) for text in self.tokenizer.batch_decode(answers_BN)]).view(-1, answers)
        advantages_B1 = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
        rows = [answers_BN[number * answers : (number + 1) * answers] for number in range(len(rests))]
        ids_T = torch.cat([torch.cat([rest, found.flatten()]) for rest, found in zip(rests, rows, strict=True)])
        mask, places, sources_BN = tree(len(prefix_P), list(map(len, rests)), answers, answers_BN.shape[1])
        embedded = torch.cat([self.embedded(prefix_P, pixels), self.model.get_input_embeddings()(ids_T[None])], 1)
        hidden_TD = self.text(
            inputs_embeds=embedded, attention_mask=mask, position_ids=places, use_cache=False
        ).last_hidden_state[0]
        logits_BNV = self.model.lm_head(hidden_TD[sources_BN])
        log_probs_BN = logits_BNV.log_softmax(-1).gather(-1, answers_BN[..., None])[..., 0]
        ratios_BN = (log_probs_BN - log_probs_BN.detach()).exp()
        loss = -(ratios_BN * advantages_B1.reshape(-1, 1)).sum() / answers_BN.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def parted(prompts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What all prompts begin with, and the rest of each."""
    shared = 0
    while len({int(prompt[shared]) for prompt in prompts}) == 1:
        shared += 1
    return prompts[0][:shared], [prompt[shared:] for prompt in prompts]


def tree(prefix: int, rests: list[int], answers: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """bool [1, 1, T, T], which token sees which; positions [1, T]; and [QG, N], from where each token is predicted."""
    question, answer, places, sources = [0] * prefix, [0] * prefix, list(range(prefix)), list[list[int]]()
    for number, length in enumerate(rests, start=1):
        last = len(places) + length - 1
        question += [number] * (length + answers * tokens)
        answer += [0] * length
        places += range(prefix, prefix + length)
        for branch in range(1, answers + 1):
            sources.append([last, *range(len(places), len(places) + tokens - 1)])
            answer += [branch] * tokens
            places += range(prefix + length, prefix + length + tokens)
    q, a = torch.tensor(question), torch.tensor(answer)
    ancestor = (q == 0) | ((q[:, None] == q) & ((a == 0) | (a[:, None] == a)))
    mask = ancestor & torch.ones_like(ancestor).tril()
    return mask[None, None], torch.tensor([places]), torch.tensor(sources)


def worth(text: str) -> float:
    """As the reward of reward.py."""
    return len(text) * 37 % 101 / 101


if __name__ == "__main__":
    main()
