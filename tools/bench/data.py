"""From JPEG files and conversations to batches: this toolkit's input path beside transformers' LLaVA processor.

    OMP_NUM_THREADS=1 python tools/bench/data.py [--photos FOLDER]

Each contender makes LLaVA-1.5's batches (336 pixels, 576 tokens an image) in processes of its own, `--rounds` times
in turn: images cropped and padded, with one question each and with seven. Ours runs once for each `images.pixels`. A
process sees each file for the first time, as a first epoch does, and has no workers. It prints one JSON line each time,
then medians of samples per second of process CPU time, ratios to the first contender, and how far pixels and token ids
are from the first's.

Photos are generated, with about as many bytes as COCO's of their size, or they are the *.jpg of a folder. Transformers'
side opens an image once for all its questions in a batch, and masks no question in its labels; ours does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTENDERS = ("transformers", "ours, exact", "ours, close", "ours, reduced")
CASES = tuple((placement, questions) for placement in ("crop", "pad") for questions in (1, 7))
SIDE, PATCH = 336, 14
WARM_UP = 2
"""Batches before the clock starts."""
COMPARED = 16
"""As many images are kept and compared."""
WORDS = ("the", "a", "man", "woman", "dog", "chair", "bus", "left", "red", "blue", "standing", "behind", "next", "to")

Batch = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="of *.jpg; default: generated photos")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"), help="of generated ones")
    parser.add_argument("--images", type=int, default=80, help="as many are read")
    parser.add_argument("--batch", type=int, default=8, help="images of a batch, each with its questions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=4, metavar=("NAME", "PLACEMENT", "QUESTIONS", "DIR"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        name, placement, questions, folder = given.only
        print(json.dumps({"samples_per_cpu_s": run(name, placement, int(questions), Path(folder), given.batch)}))
        return
    with tempfile.TemporaryDirectory() as folder:
        photos = sorted(given.photos.glob("*.jpg"))[: given.images] if given.photos else None
        photos = generate(Path(folder), given.images, given.size) if photos is None else photos
        if len(photos) <= WARM_UP * given.batch:
            parser.error(f"expected more than {WARM_UP} batches of {given.batch} photos, found {len(photos)}")
        write(Path(folder), photos)
        for placement, questions in CASES:
            compare(placement, questions, Path(folder), given.batch, given.rounds)


def compare(placement: str, questions: int, folder: Path, batch: int, rounds: int) -> None:
    """Run all contenders in turn; print a line for each run, and the table."""
    speeds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            words = ["--only", name, placement, str(questions), str(folder), "--batch", str(batch)]
            ran = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
            if ran.returncode:
                sys.exit(f"{name} failed:\n{ran.stderr[-4000:]}")
            result = json.loads(ran.stdout.splitlines()[-1])
            speeds[name].append(result["samples_per_cpu_s"])
            about = {"contender": name, "placement": placement, "questions": questions}
            print(json.dumps({**about, **result}), flush=True)
    title = f"{placement}, {questions} question(s) an image"
    print(f"\n{title:40}{'samples / CPU s':>16}{'ratio':>8}{'pixels off, most':>18}{'mean':>14}{'same ids':>10}")
    first = statistics.median(speeds[CONTENDERS[0]])
    for name, found in speeds.items():
        speed = statistics.median(found)
        most, mean, same = difference(folder, name)
        off = f"{f'{most:.2f}/255':>18}{f'{mean:.4f}/255':>14}"
        print(f"{name:40}{speed:16.1f}{speed / first:8.2f}{off}{f'{same:.0%}':>10}")
    print(flush=True)


def difference(folder: Path, name: str) -> tuple[float, float, float]:
    """To the first contender's: of the pixels the largest and the mean, in 1/255; the share of samples of equal ids."""
    import torch
    from transformers.image_utils import OPENAI_CLIP_STD

    own, first = (torch.load(folder / f"{each}.pt", weights_only=True) for each in (name, CONTENDERS[0]))
    off = (own["pixels"] - first["pixels"]).abs() * (255 * torch.tensor(OPENAI_CLIP_STD)[:, None, None])
    same = [a == b for a, b in zip(own["ids"], first["ids"], strict=True)]
    return float(off.max()), float(off.mean()), sum(same) / len(same)


def run(name: str, placement: str, questions: int, folder: Path, images: int) -> float:
    """Samples per second of CPU time; what they are is left in `folder`."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if name == CONTENDERS[0]:
        batches = theirs(placement, questions, folder, images)
    else:
        batches = ours(placement, questions, folder, images, pixels=name.split(", ")[1])
    pixels: list[torch.Tensor] = []
    ids: list[list[int]] = []
    cpu, samples, began = 0.0, 0, time.process_time()
    for number, batch in enumerate(batches):
        if number >= WARM_UP:
            cpu += time.process_time() - began
            samples += len(batch["input_ids"])
        pixels += batch["pixels"] if len(pixels) < COMPARED else []
        rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ids += [row[mask.bool()].tolist() for row, mask in rows]
        began = time.process_time()
    torch.save({"pixels": torch.stack(pixels[:COMPARED]), "ids": ids}, folder / f"{name}.pt")
    return samples / cpu


def theirs(placement: str, questions: int, folder: Path, images: int) -> Iterator[Batch]:
    from PIL import Image
    from transformers import AutoTokenizer, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)
    size: Any = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    # of a square nothing is cropped
    crops: Any = CLIPImageProcessorPil(**size)
    pads: Any = LlavaImageProcessorPil(**size, do_pad=True, do_center_crop=False)
    processor: Any = LlavaProcessor(
        image_processor=crops if placement == "crop" else pads,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    rows = records(folder, questions)
    for start in range(0, len(rows), images * questions):
        part = rows[start : start + images * questions]
        opened = {name: Image.open(name).convert("RGB") for name in dict.fromkeys(row["image"] for row in part)}
        chats = [[{"role": role(turn), "content": turn["value"]} for turn in row["conversations"]] for row in part]
        inputs = processor(
            images=[opened[row["image"]] for row in part],
            text=processor.apply_chat_template(chats),
            padding=True,
            return_tensors="pt",
            add_special_tokens=False,
        )
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        # outside the contract of a training step, for the comparison alone: an image once
        yield {**inputs, "labels": labels, "pixels": inputs["pixel_values"][::questions]}


def ours(placement: str, questions: int, folder: Path, images: int, *, pixels: str) -> Iterator[Batch]:
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    from mllm.conversation.collator import Collator
    from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
    from mllm.conversation.processor import Processor
    from mllm.images.settings import configure, read_settings
    from mllm.pipeline.train_data import TrainDataset
    from mllm.registry import CODECS, DATASETS, TEMPLATES

    configure(read_settings({"pixels": pixels}))
    kind: Any = placement
    tokens = (SIDE // PATCH) ** 2
    processor = Processor(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False),
        template=TEMPLATES.make("chat"),
        codec=CODECS.make("shikra"),
        view=SquarePreprocessor(size=SIDE, mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD, tokens=tokens, placement=kind),
    )
    pad: Any = processor.tokenizer.pad_token_id
    items = DATASETS.make({"type": "Instruct", "filename": str(folder / f"{questions}.json")})
    yield from DataLoader(
        TrainDataset(items, processor), batch_size=images * questions, collate_fn=Collator(pad_token_id=pad)
    )


def records(folder: Path, questions: int) -> list[dict[str, Any]]:
    return json.loads((folder / f"{questions}.json").read_text(encoding="utf-8"))


def role(turn: dict[str, str]) -> str:
    return "user" if turn["from"] == "human" else "assistant"


def write(folder: Path, photos: list[Path]) -> None:
    """Conversations about the photos, one question and seven each, and a tokenizer that was trained on them."""
    import random

    from fixture import CHAT, QUESTION

    from mllm.conversation.tokenizer_training import train_tokenizer

    rng = random.Random(0)
    texts: list[str] = []
    for questions in {questions for _, questions in CASES}:
        rows = []
        for photo in (photo for photo in photos for _ in range(questions)):
            question = QUESTION.format(expression=" ".join(rng.choices(WORDS, k=rng.randint(3, 9))))
            answer = "[" + ",".join(f"{rng.random():.3f}" for _ in range(4)) + "]"
            texts += [question, answer]
            turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
            rows.append({"image": str(photo.resolve()), "conversations": turns})
        (folder / f"{questions}.json").write_text(json.dumps(rows), encoding="utf-8")
    tokenizer = train_tokenizer(texts, vocab_size=2000)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = CHAT
    tokenizer.model_max_length = 4096
    tokenizer.save_pretrained(folder / "tokenizer")


def generate(folder: Path, count: int, wide: tuple[int, int]) -> list[Path]:
    """Clouds with detail of all sizes, as photographs have it."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        size = (wide[0], wide[1]) if number % 4 else (wide[1], wide[0])
        scene = np.zeros((size[1], size[0], 3))
        for octave in range(9):
            cells = (2 + (size[1] >> (8 - octave)), 2 + (size[0] >> (8 - octave)), 3)
            noise = Image.fromarray(rng.integers(0, 256, cells, dtype=np.uint8))
            scene += (np.asarray(noise.resize(size, Image.Resampling.BICUBIC)) - 127.5) * 0.75**octave
        Image.fromarray((127.5 + 0.6 * scene).clip(0, 255).astype(np.uint8)).save(path, quality=96)
    return paths


if __name__ == "__main__":
    main()
