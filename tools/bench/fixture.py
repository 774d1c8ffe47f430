"""A tiny random LLaVA and generated data, for benchmarks that need nothing from a hub.

    python tools/bench/fixture.py /tmp/fixture
    python tools/bench/fixture.py /tmp/mixed --kind mixed

`shared`: referring expressions, several about an image, with short answers of one length. `mixed`: as instruction data
are, one question about an image, with answers of 12 to 320 words, most of them short.

OUT_DIR/model is a transformers LLaVA with processor and tokenizer (4 layers of 256 in both towers), OUT_DIR/images the
images. The same questions, each a conversation of its own, are in llava.json, lf_sharegpt.json with
dataset_info.json, and swift.jsonl, as other toolkits read them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mllm.conversation.tokenizer_training import train_tokenizer
from mllm.registry import DATASETS
from mllm.types import IMAGE

QUESTION = "Please provide the bounding box coordinate of the region this sentence describes: {expression}"
"""As LLaVA-1.5 was trained on RefCOCO (Liu et al. 2023, arXiv 2310.03744, table 9)."""
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() + ': ' }}{% if m['content'] is string %}"
    "{{ m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %} "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
SIDE = 112
"""Of the images as the model sees them, in pixels."""
SIZES = {"shared": (64, 7, 256), "mixed": (256, 1, 64)}
"""ImageTensors, questions about each, tokens of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=SIZES, default="shared")
    parser.add_argument("--images", type=int, help="default: 64 shared, 256 mixed")
    parser.add_argument("--questions", type=int, help="for each image; default: 7 shared, 1 mixed")
    parser.add_argument("--tokens", type=int, choices=(64, 256), help="of an image; default: 256 shared, 64 mixed")
    given = parser.parse_args()
    images, questions, tokens = (
        default if asked is None else asked
        for asked, default in zip((given.images, given.questions, given.tokens), SIZES[given.kind], strict=True)
    )
    (given.out / "images").mkdir(parents=True, exist_ok=True)
    rows = referring_expressions(given.out, images, questions)
    if given.kind == "mixed":
        rows = [(name, *talk) for (name, _, _), talk in zip(rows, instructions(len(rows)), strict=True)]
    write_data(given.out, rows)
    write_model(given.out / "model", [f"{question} {answer}" for _, question, answer in rows], tokens)
    print(f"{given.out}: {len(rows)} questions about {images} images of {tokens} tokens")


def referring_expressions(out: Path, images: int, questions: int) -> list[tuple[str, str, str]]:
    """(image, question, answer) of generated scenes, which are saved; an answer is a box in the `shikra` form."""
    scenes = DATASETS.make(
        {"type": "Scenes", "count": images, "size": 2 * SIDE, "objects": [questions] * 2, "seed": 7}
        | {"questions_per_scene": questions}
    )
    rows: list[tuple[str, str, str]] = []
    for number in range(images):
        item = scenes[number]
        name = f"images/{number:05d}.png"
        item.images[0].open().save(out / name)
        for asked, answered in zip(item.turns[::2], item.turns[1::2], strict=True):
            box = item.boxes[answered.boxes_seq[0][0]]
            text = ",".join(f"{value / (2 * SIDE):.3f}" for value in box.xyxy)
            expression = asked.text.replace(IMAGE, "").strip()
            rows.append((name, QUESTION.format(expression=expression), f"[{text}]"))
    return rows


def instructions(count: int) -> Iterator[tuple[str, str]]:
    """(question, answer), words that mean nothing; the lengths of answers are log-normal, as in instruction data."""
    words = [word for text in source_texts() for word in re.findall("[A-Za-z]{2,}", text)]
    rng = random.Random(0)
    for _ in range(count):
        start = rng.randrange(len(words) - 400)
        asked = rng.randint(6, 20)
        answered = int(min(320, max(12, rng.lognormvariate(4.0, 0.8))))
        yield " ".join(words[start : start + asked]) + " ?", " ".join(words[start + 30 : start + 30 + answered])


def source_texts() -> list[str]:
    """Python's own library: text that every machine has, of words enough for a vocabulary."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:60]
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]


def write_data(out: Path, rows: list[tuple[str, str, str]]) -> None:
    llava = [
        {
            "id": str(number),
            "image": name,
            "conversations": [
                {"from": "human", "value": f"{IMAGE}\n{question}"},
                {"from": "gpt", "value": answer},
            ],
        }
        for number, (name, question, answer) in enumerate(rows)
    ]
    messages = [
        {
            "messages": [
                {"role": "user", "content": f"{IMAGE}\n{question}"},
                {"role": "assistant", "content": answer},
            ],
            "images": [os.path.abspath(out / name)],
        }
        for name, question, answer in rows
    ]
    columns = {"messages": "messages", "images": "images"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    sharegpt = {"file_name": "lf_sharegpt.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
    (out / "llava.json").write_text(json.dumps(llava), encoding="utf-8")
    (out / "lf_sharegpt.json").write_text(json.dumps(messages), encoding="utf-8")
    (out / "dataset_info.json").write_text(json.dumps({"tiny_mm": sharegpt}), encoding="utf-8")
    (out / "swift.jsonl").write_text("".join(json.dumps(row) + "\n" for row in messages), encoding="utf-8")


def write_model(folder: Path, texts: list[str], tokens: int) -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([*texts, *source_texts()], vocab_size=4095)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE], "unk_token": "<pad>"})
    tokenizer.chat_template = CHAT
    tokenizer.model_max_length = 4096
    patch = SIDE // int(tokens**0.5)
    layers: dict[str, Any] = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        intermediate_size=688,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        **layers,
        **ids,
    )
    vision = CLIPVisionConfig(intermediate_size=1024, image_size=SIDE, patch_size=patch, projection_dim=256, **layers)
    config = LlavaConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=tokenizer.get_vocab()[IMAGE],
        image_seq_length=tokens,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    LlavaForConditionalGeneration(config).float().save_pretrained(folder)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
