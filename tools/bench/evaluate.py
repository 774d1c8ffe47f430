"""Greedy answers to all questions of a fixture: this toolkit beside transformers' own batched `generate`.

    python tools/bench/fixture.py /tmp/fixture
    OMP_NUM_THREADS=1 python tools/bench/evaluate.py /tmp/fixture

Each contender loads the same checkpoint in a process of its own, `--rounds` times in turn, and answers every question
in float32 with the same number of new tokens; reading images and decoding text are in the time, loading is not. It
prints one JSON line each time, then medians of questions per second of process CPU time, ratios to the first contender,
and how many answers are word for word those of the first. `--ends 16`: every 16th token of the vocabulary ends an
answer, so that they are of different lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONTENDERS = ("transformers generate", "ours, one by one", "ours, sharing")
REFILLED, STAYING = "ours, sharing, refilled", "ours, sharing, rows stay"
"""More contenders for answers of different lengths."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--batch", type=int, default=56, help="questions answered together")
    parser.add_argument("--new-tokens", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ends", type=int, help="every so many tokens of the vocabulary one that ends an answer")
    parser.add_argument("--only", choices=(*CONTENDERS, REFILLED, STAYING), help=argparse.SUPPRESS)
    given = parser.parse_args()
    generation: dict[str, Any] = {"max_new_tokens": given.new_tokens, "do_sample": False}
    if given.ends:
        generation["eos_token_id"] = list(range(2, 4096, given.ends))
    if given.only:
        answer = answer_transformers if given.only == CONTENDERS[0] else answer_ours
        print(json.dumps(answer(given.fixture, given.batch, generation, given.only)))
        return
    contenders = (*CONTENDERS, REFILLED, STAYING) if given.ends else CONTENDERS
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    flags = ["--batch", str(given.batch), "--new-tokens", str(given.new_tokens)]
    flags += ["--ends", str(given.ends)] if given.ends else []
    for _ in range(given.rounds):
        for name in contenders:
            command = [sys.executable, __file__, given.fixture, "--only", name, *flags]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                sys.exit(f"{name} failed:\n{ran.stderr[-4000:]}")
            result = json.loads(ran.stdout.splitlines()[-1])
            found[name].append(result)
            print(json.dumps({"contender": name, "sec": result["sec"], "cpu_sec": result["cpu_sec"]}), flush=True)
    print(table(found))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    expected: list[str] = found[CONTENDERS[0]][0]["answers"]
    speeds = {
        name: statistics.median(len(expected) / result["cpu_sec"] for result in results)
        for name, results in found.items()
    }
    lines = [f"{'':28}{'questions / CPU s':>18}{'ratio':>8}{'identical answers':>20}"]
    for name, speed in speeds.items():
        same = sum(a == b for a, b in zip(found[name][0]["answers"], expected, strict=True))
        lines.append(f"{name:28}{speed:18.2f}{speed / speeds[CONTENDERS[0]]:8.2f}{f'{same} of {len(expected)}':>20}")
    return "\n".join(lines)


def answer_transformers(fixture: str, batch: int, generation: dict[str, Any], name: str) -> dict[str, Any]:
    import torch
    from PIL import Image
    from transformers import LlavaForConditionalGeneration

    set_threads()
    model: Any = LlavaForConditionalGeneration.from_pretrained(f"{fixture}/model", dtype=torch.float32).eval()
    processor = processor_of(fixture, model, padding_side="left")
    tokenizer = processor.tokenizer
    rows = json.loads(Path(fixture, "llava.json").read_text())
    answers: list[str] = []
    with Clock() as clock, torch.no_grad():
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            texts = [
                processor.apply_chat_template(
                    [{"role": "user", "content": row["conversations"][0]["value"]}], add_generation_prompt=True
                )
                for row in part
            ]
            images = [Image.open(f"{fixture}/{row['image']}").convert("RGB") for row in part]
            inputs = processor(images=images, text=texts, padding=True, return_tensors="pt", add_special_tokens=False)
            ids = model.generate(**inputs, **generation)
            answers += tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return {**clock.seconds(), "answers": [text.strip() for text in answers]}


def processor_of(fixture: str, model: Any, *, padding_side: str) -> Any:
    """transformers' own; the fixture's folder names one whose image processor needs torchvision."""
    from fixture import CHAT, SIDE
    from transformers import AutoTokenizer, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor: Any = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokenizer=AutoTokenizer.from_pretrained(f"{fixture}/model", padding_side=padding_side, trust_remote_code=False),
        patch_size=model.config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    return processor


def answer_ours(fixture: str, batch: int, generation: dict[str, Any], name: str) -> dict[str, Any]:
    from accelerate import Accelerator

    from mllm import load
    from mllm.conversation.collator import Collator
    from mllm.models.llava.model import Llava
    from mllm.models.runtime.decoding import ContinuousBatcher
    from mllm.pipeline import evaluate as evaluation
    from mllm.registry import DATASETS

    set_threads()
    session = load(f"{fixture}/model", device="cpu", type="llava", template="chat", placement="crop", dtype="float32")
    if name == CONTENDERS[1]:
        Llava.supports_prefix_sharing = False  # pyright: ignore[reportAttributeAccessIssue]
    if name == REFILLED:
        evaluation.NOT_REFILLED = ()
    if name == STAYING:
        evaluation.ContinuousBatcher = lambda **given: ContinuousBatcher(**{**given, "evict_finished": False})  # pyright: ignore
    items = DATASETS.make({"type": "Instruct", "filename": f"{fixture}/llava.json", "image_folder": fixture})
    tokenizer = session.processor.tokenizer
    pad: Any = tokenizer.pad_token_id
    with Clock() as clock:
        found = list(
            evaluation.predict(
                session.model,
                items,
                session.processor,
                evaluation.Loader(collator=Collator(pad_token_id=pad), batch_size=batch),
                Accelerator(cpu=True),
                generation=generation,
                description="",
            )
        )
    special = tokenizer.all_special_tokens
    answers = [prediction.text for prediction in found]
    for token in special:
        answers = [text.replace(token, "") for text in answers]
    return {**clock.seconds(), "answers": [text.strip() for text in answers]}


class Clock:
    """Wall and process CPU time of a `with` block."""

    def __enter__(self) -> Clock:
        self.start = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *error: object) -> None:
        self.stop = (time.perf_counter(), time.process_time())

    def seconds(self) -> dict[str, float]:
        return {"sec": self.stop[0] - self.start[0], "cpu_sec": self.stop[1] - self.start[1]}


def set_threads() -> None:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


if __name__ == "__main__":
    main()
