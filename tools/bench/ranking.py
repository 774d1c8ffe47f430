"""100 class names ranked by log-likelihood for each question of a fixture: this toolkit beside transformers.

    python tools/bench/fixture.py /tmp/fixture
    OMP_NUM_THREADS=1 python tools/bench/ranking.py /tmp/fixture

Each contender loads the same checkpoint in a process of its own, `--rounds` times in turn, and gives each name the mean
log-probability of its tokens behind image and question, in float32; reading images is in the time, loading is not.
transformers reads image, question and name as one row, one name after another; "cached" has it read image and question
once, and each name behind a cache that is cropped again. It prints one JSON line each time, then medians of questions
per second of process CPU time and ratios to the first contender, and fails where names or scores differ.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from evaluate import Clock, processor_of, set_threads

CONTENDERS = ("transformers, one by one", "transformers, cached", "ours")
KINDS = ("small", "large", "dark", "bright", "old", "striped", "round", "broken", "wooden", "northern")
THINGS = (
    "circle",
    "square",
    "hammer head",
    "table lamp",
    "star fish",
    "parking meter",
    "tree frog",
    "bow",
    "cab",
    "owl",
)
NAMES = [f"{kind} {thing}" for kind, thing in itertools.product(KINDS, THINGS)]
CLOSE = 1e-4
"""Scores of one name may differ by so much."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        contender = rank_ours if given.only == CONTENDERS[2] else rank_transformers
        print(json.dumps(contender(given.fixture, given.questions, given.only)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _, name in itertools.product(range(given.rounds), CONTENDERS):
        command = [sys.executable, __file__, given.fixture, "--only", name, "--questions", str(given.questions)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{name} failed:\n{ran.stderr[-4000:]}")
        found[name].append(json.loads(ran.stdout.splitlines()[-1]))
        print(json.dumps({"contender": name, **{key: found[name][-1][key] for key in ("sec", "cpu_sec")}}), flush=True)
    expected = found[CONTENDERS[0]][0]["scores"]
    print(f"{'':28}{'questions / CPU s':>18}{'ratio':>8}")
    speeds = {
        name: statistics.median(given.questions / result["cpu_sec"] for result in results)
        for name, results in found.items()
    }
    for name, speed in speeds.items():
        for scores, known in zip(found[name][0]["scores"], expected, strict=True):
            assert max(scores, key=scores.get) == max(known, key=known.get), f"{name}: another answer"
            assert all(abs(scores[each] - known[each]) < CLOSE for each in scores), f"{name}: other scores"
        print(f"{name:28}{speed:18.3f}{speed / speeds[CONTENDERS[0]]:8.2f}")


def rank_transformers(fixture: str, questions: int, name: str) -> dict[str, Any]:
    import torch
    from PIL import Image
    from transformers import LlavaForConditionalGeneration

    set_threads()
    model: Any = LlavaForConditionalGeneration.from_pretrained(f"{fixture}/model", dtype=torch.float32).eval()
    processor = processor_of(fixture, model, padding_side="left")
    rows = json.loads(Path(fixture, "llava.json").read_text())[:questions]
    found: list[dict[str, float]] = []
    with Clock() as clock, torch.no_grad():
        ids = {each: torch.tensor([processor.tokenizer(each, add_special_tokens=False)["input_ids"]]) for each in NAMES}
        for row in rows:
            talk = [{"role": "user", "content": row["conversations"][0]["value"]}]
            text = processor.apply_chat_template(talk, add_generation_prompt=True)
            image = Image.open(f"{fixture}/{row['image']}").convert("RGB")
            inputs = processor(images=[image], text=[text], return_tensors="pt", add_special_tokens=False)
            behind = behind_cache(model, inputs) if name == CONTENDERS[1] else behind_prompt(model, inputs)
            scores: dict[str, float] = {}
            for each, name_1N in ids.items():
                likely = behind(name_1N).log_softmax(-1).gather(1, name_1N[0, :, None])
                scores[each] = float(likely.mean())
            found.append(scores)
    return {**clock.seconds(), "scores": found}


def behind_prompt(model: Any, inputs: Any) -> Any:
    """The logits [N, V] of a name's tokens, each time of the whole row."""
    import torch

    def logits(name_1N: Any) -> Any:
        ids = torch.cat([inputs["input_ids"], name_1N], 1)
        made = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=inputs["pixel_values"])
        return made.logits[0, -name_1N.shape[1] - 1 : -1]

    return logits


def behind_cache(model: Any, inputs: Any) -> Any:
    """The same, where image and question are read once."""
    import torch

    read = model(**inputs, use_cache=True, logits_to_keep=1)
    cache, first = read.past_key_values, read.logits[0]

    def logits(name_1N: Any) -> Any:
        made = model(input_ids=name_1N, past_key_values=cache, use_cache=True)
        cache.crop(-name_1N.shape[1])
        return torch.cat([first, made.logits[0, :-1]])

    return logits


def rank_ours(fixture: str, questions: int, name: str) -> dict[str, Any]:
    from accelerate import Accelerator

    from mllm import load
    from mllm.config.data_args import Ranking
    from mllm.conversation.collator import Collator
    from mllm.dataset.mixing import Subset
    from mllm.pipeline import ranking
    from mllm.pipeline.evaluate import Loader
    from mllm.registry import DATASETS

    set_threads()
    ranking.KEPT_CANDIDATES = len(NAMES)
    session = load(f"{fixture}/model", device="cpu", type="llava", template="chat", placement="crop", dtype="float32")
    items = DATASETS.make({"type": "Instruct", "filename": f"{fixture}/llava.json", "image_folder": fixture})
    pad: Any = session.processor.tokenizer.pad_token_id
    with Clock() as clock:
        found = ranking.rank(
            session.model,
            Subset(dataset=items, indices=list(range(questions))),
            session.processor,
            Loader(collator=Collator(pad_token_id=pad), batch_size=8),
            Accelerator(cpu=True),
            ranking=Ranking(candidates=NAMES),
            description="",
        )
        scores = [dict(prediction.candidate_scores) for prediction in found]
    return {**clock.seconds(), "scores": scores}


if __name__ == "__main__":
    main()
