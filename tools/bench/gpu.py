"""Training steps of a LLaVA-1.5-7B-shaped model of random weights on one GPU: bfloat16, LoRA, vision tower frozen.

    python tools/bench/gpu.py [--peak 989] [--attention mllm_packed] [--checkpointing]
    python tools/bench/gpu.py --tiny     the same in a tiny shape, wherever it runs: to see that it does

A step is `--images` images with `--questions` questions each: one by one in padded rows, packed in rows of at most
`--max-tokens`, and packed with the image's tokens shared. All three learn the same, so that their losses are equal.
Each runs in a process of its own and prints one JSON line; then comes a table of samples per second and their ratios to
the first. `--peak` is the device's dense peak in TFLOP/s (989 for bfloat16 on an H100 or H200 SXM, 312 on an A100, says
NVIDIA), of which MFU is the share that these model FLOPs of a step make:

    4 N tokens + 4 D V labels + 12 L D pairs + 2 N' patches + 4 L' D' pairs'

N weights, D width, V vocabulary and L layers of the language model, which is run forwards and backwards but gets no
gradients of its weights; N', L', D' those of the vision tower, which is run forwards; pairs of tokens that see each
other, padding left out; what checkpointing computes again is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import torch

from mllm.conversation.collator import Collator
from mllm.conversation.tokenizer_training import train_tokenizer
from mllm.images import FileImage
from mllm.models.adapters.injection import inject_adapters
from mllm.models.adapters.settings import read_adapters
from mllm.models.runtime.packed_mask import PackedAttentionMask
from mllm.registry import MODELS
from mllm.types import IMAGE, EncodedSample

LAYOUTS = ("none", "rows", "shared")
WARM_UP = 5
"""Steps before the clock starts, in which kernels are compiled."""
WORDS, PROMPT, ANSWER = 1000, 40, 20
"""Vocabulary of the text, tokens of a question that is not its image's, and of an answer."""
VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
VISION |= {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14}
TEXT = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
TEXT |= {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=7, help="about each image")
    parser.add_argument("--steps", type=int, default=20, help=f"timed, after {WARM_UP}")
    parser.add_argument("--max-tokens", type=int, default=4096, help="of a packed row")
    parser.add_argument("--attention", help="attn_implementation; default: what the device chooses")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again, to save memory")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, for MFU")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", choices=LAYOUTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given)))
        return
    found: dict[str, dict[str, Any]] = {}
    for layout in LAYOUTS:
        ran = subprocess.run([sys.executable, *sys.argv, "--only", layout], capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{layout} failed:\n{ran.stderr[-4000:]}")
        found[layout] = json.loads(ran.stdout.splitlines()[-1])
        print(json.dumps({"layout": layout, **found[layout]}), flush=True)
    print(table(found))


def table(found: dict[str, dict[str, Any]]) -> str:
    first = found[LAYOUTS[0]]["samples_per_s"]
    lines = [f"{'':8}{'samples/s':>11}{'ratio':>7}{'tokens/s':>10}{'MFU':>7}{'peak GiB':>10}{'first, last loss':>20}"]
    for layout, one in found.items():
        mfu = "-" if one["mfu"] is None else f"{one['mfu']:.1%}"
        losses = f"{one['loss_first']:.4f}, {one['loss_last']:.4f}"
        lines.append(
            f"{layout:8}{one['samples_per_s']:11.2f}{one['samples_per_s'] / first:7.2f}{one['tokens_per_s']:10.0f}"
            f"{mfu:>7}{one['peak_gib']:10.2f}{losses:>20}"
        )
    return "\n".join(lines)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.tiny:
        sys.exit("no CUDA device is visible: only --tiny runs here")
    model = make_model(given, device)
    batch = {name: value.to(device) for name, value in make_batch(model, given).items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    losses: list[float] = []
    start = 0.0
    for step in range(WARM_UP + given.steps):
        if step == WARM_UP:
            start = now(device)
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in (0, WARM_UP + given.steps - 1):  # reading it waits for the device
            losses.append(loss.item())
    seconds = (now(device) - start) / given.steps
    work = flops(model, batch)
    return {
        "sec": seconds,
        "samples_per_s": given.images * given.questions / seconds,
        "tokens_per_s": work["tokens"] / seconds,
        "model_tflop": work["flops"] / 1e12,
        "mfu": work["flops"] / seconds / given.peak / 1e12 if given.peak else None,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0,
        "attention": model.language_model.config._attn_implementation,
        "loss_first": losses[0],
        "loss_last": losses[-1],
    }


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def make_model(given: argparse.Namespace, device: torch.device) -> Any:
    tokenizer = train_tokenizer([], vocab_size=0)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    vision = {**VISION, **TINY, "image_size": 56} if given.tiny else VISION
    text = {**TEXT, **TINY, "vocab_size": WORDS + 24} if given.tiny else TEXT
    args: dict[str, Any] = {
        "type": "llava",
        "vision_tower": vision,
        "language_model": text,
        "dtype": "float32" if given.tiny else "bfloat16",
        "attn_implementation": given.attention,
        "freeze": ["vision_tower"],
    }
    torch.manual_seed(0)
    with device:
        model = MODELS.make(args, tokenizer=tokenizer)
    inject_adapters(model, read_adapters({"type": "lora", "targets": ["language_model"], "r": 64}), args)
    if given.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model.to(device).train()


def make_batch(model: Any, given: argparse.Namespace) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    view = model.image_preprocessor()
    slot = [model.config.image_token_id] * view.tokens
    groups: list[list[EncodedSample]] = []
    for image in range(given.images):
        pixels = {"pixels": torch.randn(1, 3, view.size, view.size, generator=generator, dtype=torch.float32)}
        group: list[EncodedSample] = []
        for question in range(given.questions):
            words = torch.randint(500, WORDS, (PROMPT + ANSWER,), generator=generator)
            ids = torch.cat([torch.tensor([1, *slot]), words])
            labels = ids.clone()
            labels[:-ANSWER] = -100
            group.append(
                EncodedSample(
                    key=f"{image}.{question}",
                    index=len(groups) * given.questions + question,
                    input_ids=ids,
                    labels=labels,
                    images=(FileImage(f"{image}.png"),),
                    pixels=(pixels,),
                )
            )
        groups.append(group)
    entries: Any = groups if given.only == "shared" else [example for group in groups for example in group]
    batch = Collator(pad_token_id=0, packing=given.only, max_tokens=given.max_tokens)(entries)
    made: dict[str, Any] = {name: value for name, value in batch.items() if name not in ("index", "label_sources")}
    made["pixels"] = made["pixels"].to(model.dtype)
    return made


def flops(model: Any, batch: dict[str, Any]) -> dict[str, float]:
    """Tokens and model FLOPs of a step; the formula is on top of the file."""
    text, vision = model.language_model.config, model.vision_tower.encoder.config
    if "segment_ids" in batch:
        rows = PackedAttentionMask(batch["segment_ids"], batch["prefix_ids"]).rows
        seen = [(s.length, sum(row[n].length for n in s.ancestors)) for row in rows for s in row]
    else:
        seen = [(int(length), 0) for length in batch["attention_mask"].sum(1)]
    tokens = sum(length for length, _ in seen)
    pairs = sum(length * (length + 1) // 2 + length * prefix for length, prefix in seen)
    labels = int((batch["labels"] != -100).sum())
    weights = sum(p.numel() for name, p in model.language_model.named_parameters() if is_layer(name))
    images, patches = len(batch["pixels"]), (vision.image_size // vision.patch_size) ** 2 + 1
    looking = sum(p.numel() for p in model.vision_tower.parameters())
    return {
        "tokens": tokens,
        "flops": 4 * weights * tokens
        + 4 * text.hidden_size * text.vocab_size * labels
        + 12 * text.num_hidden_layers * text.hidden_size * pairs
        + 2 * looking * patches * images
        + 4 * vision.num_hidden_layers * vision.hidden_size * patches**2 * images,
    }


def is_layer(name: str) -> bool:
    return ".layers." in name and "lora" not in name


if __name__ == "__main__":
    main()
