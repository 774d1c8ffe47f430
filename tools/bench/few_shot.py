"""Greedy answers behind common demonstrations: this toolkit beside transformers' own `generate`.

    python tools/bench/fixture.py /tmp/fixture --tokens 64
    OMP_NUM_THREADS=1 python tools/bench/few_shot.py /tmp/fixture

Each question is about another image and stands behind the same `--shots` demonstrations, with an image each. Each
contender loads the same checkpoint in a process of its own, `--rounds` times in turn, and answers in float32 with the
same number of new tokens; reading images and decoding text are in the time, loading is not. It prints one JSON line
each time, then medians of questions per second of process CPU time, ratios to the first contender, and how many answers
are word for word those of the first.
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

CONTENDERS = (
    "transformers, one by one",
    "transformers, in batches",
    "ours, each prompt whole",
    "ours, demonstrations read once",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--questions", type=int, default=32, help="each about another image; the rest of the images")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16, help="questions answered together")
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        contender = answer_transformers if given.only in CONTENDERS[:2] else answer_ours
        print(json.dumps(contender(given)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _, name in itertools.product(range(given.rounds), CONTENDERS):
        ran = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--only", name], capture_output=True, text=True, check=False
        )
        if ran.returncode:
            sys.exit(f"{name} failed:\n{ran.stderr[-4000:]}")
        found[name].append(json.loads(ran.stdout.splitlines()[-1]))
        print(json.dumps({"contender": name, **{key: found[name][-1][key] for key in ("sec", "cpu_sec")}}), flush=True)
    expected = found[CONTENDERS[0]][0]["answers"]
    speeds = {
        name: statistics.median(len(expected) / result["cpu_sec"] for result in results)
        for name, results in found.items()
    }
    print(f"{'':32}{'questions / CPU s':>18}{'ratio':>8}{'identical answers':>20}")
    for name, speed in speeds.items():
        same = sum(a == b for a, b in zip(found[name][0]["answers"], expected, strict=True))
        print(f"{name:32}{speed:18.3f}{speed / speeds[CONTENDERS[0]]:8.2f}{f'{same} of {len(expected)}':>20}")


def few_shot(given: argparse.Namespace) -> Any:
    """The first question about each of the first images, behind demonstrations about the others."""
    from mllm.registry import DATASETS

    rows = json.loads(Path(given.fixture, "llava.json").read_text())
    images = list(dict.fromkeys(row["image"] for row in rows))
    asked, shown = set(images[: given.questions]), set(images[given.questions :])
    places = {row["image"]: number for number, row in reversed(list(enumerate(rows)))}
    items = {"type": "Instruct", "filename": f"{given.fixture}/llava.json", "image_folder": given.fixture}
    return DATASETS.make(
        {
            "type": "FewShot",
            "dataset": {"type": "Subset", "dataset": items, "indices": sorted(places[image] for image in asked)},
            "demonstrations": {"type": "Subset", "dataset": items, "indices": sorted(places[image] for image in shown)},
            "shots": given.shots,
            "choose": "common",
        }
    )


def answer_transformers(given: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import LlavaForConditionalGeneration

    set_threads()
    model: Any = LlavaForConditionalGeneration.from_pretrained(f"{given.fixture}/model", dtype=torch.float32).eval()
    processor = processor_of(given.fixture, model, padding_side="left")
    items = few_shot(given)
    batch = 1 if given.only == CONTENDERS[0] else given.batch
    roles = {"human": "user", "gpt": "assistant"}
    answers: list[str] = []
    with Clock() as clock, torch.no_grad():
        for start in range(0, len(items), batch):
            part = [items[index] for index in range(start, min(start + batch, len(items)))]
            talks = [[{"role": roles[turn.role], "content": turn.text} for turn in item.prompt] for item in part]
            texts = [processor.apply_chat_template(talk, add_generation_prompt=True) for talk in talks]
            images = [[ref.open() for ref in item.images] for item in part]
            inputs = processor(images=images, text=texts, padding=True, return_tensors="pt", add_special_tokens=False)
            ids = model.generate(**inputs, max_new_tokens=given.new_tokens, do_sample=False)
            answers += processor.tokenizer.batch_decode(
                ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
    return {**clock.seconds(), "answers": [text.strip() for text in answers]}


def answer_ours(given: argparse.Namespace) -> dict[str, Any]:
    from accelerate import Accelerator

    from mllm import load
    from mllm.conversation.collator import Collator
    from mllm.models.llava.model import Llava
    from mllm.pipeline.evaluate import Loader, predict

    set_threads()
    session = load(
        f"{given.fixture}/model", device="cpu", type="llava", template="chat", placement="crop", dtype="float32"
    )
    if given.only == CONTENDERS[2]:
        Llava.supports_prefix_sharing = False  # pyright: ignore[reportAttributeAccessIssue]
    items = few_shot(given)
    tokenizer: Any = session.processor.tokenizer
    loader = Loader(collator=Collator(pad_token_id=tokenizer.pad_token_id), batch_size=given.batch)
    generation = {"max_new_tokens": given.new_tokens, "do_sample": False}
    with Clock() as clock:
        found = list(
            predict(
                session.model,
                items,
                session.processor,
                loader,
                Accelerator(cpu=True),
                generation=generation,
                description="",
            )
        )
    answers = [prediction.text for prediction in found]
    for token in tokenizer.all_special_tokens:
        answers = [text.replace(token, "") for text in answers]
    return {**clock.seconds(), "answers": [text.strip() for text in answers]}


if __name__ == "__main__":
    main()
