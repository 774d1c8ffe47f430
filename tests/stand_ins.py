"""Tiny stand-ins for the checkpoints, annotation files and images that a config names and a test has not at hand."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mllm.conversation.tokenizer_training import train_tokenizer
from mllm.models.components import load_causal_lm, vision_encoder
from mllm.models.flamingo.checkpoints import save_reference
from mllm.registry import MODELS
from mllm.tokenizer_files import load_tokenizer
from tests.conftest import CORPUS
from tests.models.tiny_hf import save_tiny
from tests.pipeline.tiny import save_stand_in as save_trained
from tools.native.stand_ins import save_stand_in

ENCODER = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32)
ENCODERS: dict[str, dict[str, Any]] = {
    "siglip": dict(ENCODER, model_type="siglip_vision_model", patch_size=16, vision_use_head=False),
    "clip": dict(ENCODER, model_type="clip_vision_model", patch_size=16),
}
DECODER = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2)
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "vicuna": dict(DECODER, model_type="llama"),
    "qwen2": dict(DECODER, model_type="qwen2", num_key_value_heads=1),
    "mpt": dict(model_type="mpt", d_model=32, n_heads=2, n_layers=4, expansion_ratio=2, max_seq_len=4096),
    "redpajama": dict(DECODER, model_type="gpt_neox", max_position_embeddings=4096),
}
NATIVE = {
    "Qwen2.5-VL": "qwen2_5_vl",
    "InternVL": "internvl",
    "SmolVLM": "smolvlm",
    "paligemma": "paligemma",
    "kosmos-2": "kosmos-2",
}
"""By what the names of the real folders hold."""
OTHERS = {
    "Qwen3-VL": "qwen3_vl",
    "GLM-4.1V": "glm4v",
    "llava-onevision": "llava_onevision",
    "gemma-3": "gemma3",
    "Florence-2": "florence2",
    "Qwen3.5": "qwen3_5",
    "Molmo2": "molmo2",
}
"""Likewise; their stand-ins are those of the table in docs/native.md."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def words(*special: str) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(CORPUS, vocab_size=400)
    tokenizer.add_tokens(list(special), special_tokens=True)
    return tokenizer


def model_parts(model_args: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same section with every folder and file replaced by a tiny one of its kind, made under `folder`."""
    given = dict(model_args)
    for name, make in (("vision_tower", _encoder), ("language_model", _language_model), ("tokenizer", _tokenizer)):
        if isinstance(given.get(name), str):
            given[name] = make(given[name], folder / name)
    if given["type"] == "hf":
        makers = {**dict.fromkeys(NATIVE, save_tiny), **dict.fromkeys(OTHERS, save_stand_in)}
        name = next(name for name in makers if name in given["model_name_or_path"])
        family = {**NATIVE, **OTHERS}[name]
        given["model_name_or_path"] = str(makers[name](family, folder / "native"))
    elif given.get("model_name_or_path"):
        given["model_name_or_path"] = str(folder / given["type"])
        if not (folder / given["type"]).exists():
            save_trained(folder / given["type"], given["type"])
    if given.get("checkpoint"):
        given["checkpoint"] = _flamingo_file(given, folder)
    return given


def _encoder(name: str, folder: Path) -> str:
    kind = next(kind for kind in ENCODERS if kind in name.lower())
    if not folder.exists():
        vision_encoder(ENCODERS[kind], dtype=torch.float32, attn_implementation=None).save_pretrained(folder)
    return str(folder)


def _language_model(name: str, folder: Path) -> str:
    kind = next(kind for kind in LANGUAGE_MODELS if kind in name.lower())
    tokenizer = words("<|im_start|>", "<|im_end|>") if kind == "qwen2" else words()
    tokenizer.chat_template = CHATML if kind == "qwen2" else None
    language_model = load_causal_lm(LANGUAGE_MODELS[kind], tokenizer, dtype=torch.float32, attn_implementation=None)
    language_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _tokenizer(name: str, folder: Path) -> str:
    assert "flamingo" in name, name
    words("<|endofchunk|>", "<image>", "<PAD>").save_pretrained(folder)
    return str(folder)


def _flamingo_file(model_args: Mapping[str, Any], folder: Path) -> str:
    """What OpenFlamingo releases for these parts: the perceiver, the cross-attention, the embeddings."""
    names = ("vision_tower", "language_model", "cross_attn_every_n_layers", "perceiver")
    parts = {name: model_args[name] for name in names if name in model_args}
    tokenizer = load_tokenizer(model_args["tokenizer"])
    save_reference(MODELS.make({"type": "openflamingo", **parts}, tokenizer=tokenizer), str(folder / "released.pt"))
    return str(folder / "released.pt")


def save_image(path: Path) -> None:
    Image.new("RGB", (32, 24), "red").save(path)


CONVERSATION = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A dog."}]
REC = {"img_path": "a.jpg", "expression": "the dog", "bbox": [4, 4, 20, 18], "width": 32, "height": 24}
GROUNDED: dict[str, Any] = {
    "image_id": "a",
    "sentence": "<ph_st>A dog<ph_ed> runs.",
    "boxes": [[4, 4, 20, 18]],
    "boxes_seq": [[0]],
}
POINTED: dict[str, Any] = {
    "file_path": "a.jpg",
    "question": "What colour is it?",
    "obj_question": "How many dogs?",
    "super_question": "How many animals?",
    "general_question": "How many of these?",
    "answer": "1",
    "bbox": [4, 4, 20, 18],
    "point": [9, 9],
}
RECORDS: dict[str, dict[str, Any]] = {
    "BoxList": {"img_path": "a.jpg", "expression": "dogs", "boxes": [[4, 4, 20, 18], [1, 1, 9, 9]]},
    "HumanRef": {
        "image_name": "a.jpg",
        "referring": "the men",
        "domain": "attribute",
        "sub_domain": "a",
        "answer_boxes": [[4, 4, 20, 18]],
    },
    "PointList": {"img_path": "a.jpg", "expression": "dogs", "points": [[4, 4], [9, 9]]},
    "Moments": {"video": {"frames": ["a.jpg", "a.jpg"], "times": [0, 2]}, "expression": "a dog", "spans": [[0, 1.5]]},
    "HatefulMemes": {"id": 1, "img": "a.jpg", "label": 0, "text": "look at this"},
    "REC": REC,
    "REG": REC,
    "Caption": {"img_path": "a.jpg", "caption": "A dog."},
    "GroundedCaption": GROUNDED,
    "ReferentialDialogue": {
        "img_path": "a.jpg",
        "boxes": [[4, 4, 20, 18]],
        "question": "What is <ph_st>this<ph_ed>?",
        "question_boxes_seq": [[0]],
        "answer": "A dog.",
        "cot_with_ans": "<ph_st>This<ph_ed> barks. So a dog.",
        "answer_boxes_seq": [[0]],
    },
    "GroundedPhrase": GROUNDED,
    "VQAv2": {
        "image_path": "a.jpg",
        "question": "What is it?",
        "annotation": {"multiple_choice_answer": "dog", "answers": [{"answer": "dog"}, {"answer": "puppy"}]},
    },
    "VQAReason": {
        "file_path": "a.jpg",
        "question": "What is it?",
        "explanation": ["It barks.", 0.9],
        "multiple_answers": "dog",
        "justification": ["It barks.", "It has a tail."],
        "multiple_choice_answer": "dog",
    },
    "POPE": {"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "yes"},
    "AOKVQA": {
        "image_id": 1,
        "question": "What is it?",
        "choices": ["cat", "dog"],
        "correct_choice_idx": 1,
        "direct_answers": ["dog", "puppy"],
        "rationales": ["It barks."],
    },
    "VCR": {
        "img_fn": "a.jpg",
        "boxes": [[4, 4, 20, 18, 0.9]],
        "question": ["What", "is", [0], "doing", "?"],
        "answer_choices": [["It", "sleeps"], [[0], "barks"]],
        "answer_label": 1,
        "rationale_choices": [["It", "is", "a", "dog"], ["It", "is", "red"]],
        "rationale_label": 0,
    },
    "PointQALocal": POINTED,
    "PointQATwice": POINTED,
    "V7WPointing": {
        "file_path": "a.jpg",
        "question": "Which dog?",
        "candidates": [[4, 4, 20, 18], [1, 1, 2, 2]],
        "answer": [1, 1, 2, 2],
        "point": [1, 1],
    },
    "Instruct": {"id": "1", "image": "a.jpg", "conversations": CONVERSATION},
    "InstructFlamingo": {"input": "<img_path>a.jpg<img_path>What is it?", "output": "A dog."},
    "OCRBench": {
        **{"image_path": "a.jpg", "question": "What is written?", "answers": ["STOP"]},
        **{"type": "Regular Text Recognition", "dataset_name": "IIIT5K"},
    },
    "TextOnly": {"instruction": "Name an animal.", "output": "A dog."},
}
"""A line of each kind of dataset."""


def data(value: Any, images: Path, folder: Path) -> Any:
    """The same config with every annotation file that is not at hand replaced by two lines of its kind."""
    if isinstance(value, list):
        return [data(entry, images, folder) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "ImageFolder" and not Path(value["folder"]).exists():
        return {**value, "folder": str(_classes(folder / "classes"))}
    if "filename" in value and not Path(value["filename"]).exists():
        write = FILES.get(value["type"], _lines)
        value = {**value, **write(value, images, folder)}
    return {name: data(entry, images, folder) for name, entry in value.items()}


def _lines(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    path = folder / f"{cfg['type']}.jsonl"
    path.write_text(f"{json.dumps(RECORDS[cfg['type']])}\n" * 2, encoding="utf-8")
    return {"filename": str(path), **({"image_folder": str(images)} if "image_folder" in cfg else {})}


def _flamingo_datasets(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    files = [_lines({"type": kind}, images, folder)["filename"] for kind in ("InstructFlamingo", "InstructFlamingo")]
    entries = [{"dataset_name": "a", "json_path": path, "img_dir": str(images), "ratio": 2} for path in files]
    (folder / "datasets.json").write_text(json.dumps(entries), encoding="utf-8")
    return {"filename": str(folder / "datasets.json")}


def _mimic_it(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    image = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(image, "png")
    line = {"instruction": "What is it?", "answer": "A dog.", "image_ids": ["IMG_1"], "rel_ins_ids": ["INS_1"]}
    files = {
        "filename": {"meta": {}, "data": {"INS_1": line, "INS_2": line}},
        "images": {"IMG_1": base64.b64encode(image.getvalue()).decode()},
        "relations": {"INS_2": ["INS_1"], "INS_1": []},
    }
    return _json_files(files, cfg, folder)


def _scienceqa(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    problem = {"question": "What is it?", "choices": ["cat", "dog"], "answer": 1, "hint": "", "image": "image.png"}
    problem |= {"lecture": "Dogs bark.", "solution": "It barks.", "split": cfg["split"]}
    files = {"filename": {"1": problem, "2": problem}, "splits": {cfg["split"]: ["2"]}}
    return {"image_folder": str(images), **_json_files(files, cfg, folder)}


def _gqa(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    question = {"imageId": "a", "question": "What barks?", "answer": "dog", "fullAnswer": "The dog barks."}
    question |= {"semanticStr": "select: dog (7)->query: name [0]"}
    question |= {"annotations": {"question": {}, "fullAnswer": {"1": "7"}, "answer": {"0": "7"}}}
    scene = {"width": 32, "height": 24, "objects": {"7": {"name": "dog", "x": 4, "y": 4, "w": 16, "h": 14}}}
    files = {"filename": {"201": question, "202": question}, "scene_graphs": {"a": scene}}
    return {"image_folder": str(images), **_json_files(files, cfg, folder)}


def _clevr(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    program = [
        {"function": "scene", "inputs": [], "value_inputs": []},
        {"function": "filter_color", "inputs": [0], "value_inputs": ["red"]},
        {"function": "count", "inputs": [1], "value_inputs": []},
    ]
    question = {"image_filename": "a.jpg", "image_index": 0, "question": "How many red things?", "answer": "1"}
    thing = {"color": "red", "size": "small", "shape": "cube", "material": "metal", "pixel_coords": [9, 9, 1.5]}
    scene = {"image_index": 0, "objects": [thing], "relationships": {}}
    files = {
        "filename": {"info": {}, "questions": [{**question, "program": program}] * 2},
        "scenes": {"scenes": [scene]},
    }
    return {"image_folder": str(images), **_json_files(files, cfg, folder)}


def _screenspot(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    line = {"img_filename": "a.jpg", "bbox": [4, 4, 16, 14], "instruction": "stop", "data_type": "icon"}
    line |= {"data_source": "ios", "ui_type": "icon", "platform": "macos", "application": "word", "group": "Office"}
    return {"image_folder": str(images), **_json_files({"filename": [line, line]}, cfg, folder)}


def _shard(cfg: Mapping[str, Any], images: Path, folder: Path) -> dict[str, Any]:
    (folder / "0.txt").write_text("A dog.", encoding="utf-8")
    with tarfile.open(folder / "0.tar", "w") as tar:
        tar.add(images / "a.jpg", "0.jpg")
        tar.add(folder / "0.txt", "0.txt")
    return {"filename": str(folder / "0.tar")}


def _json_files(files: Mapping[str, Any], cfg: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Writes those that the config names."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return {name: str(folder / f"{name}.json") for name in files if name in cfg}


def _classes(folder: Path) -> Path:
    for name in ("rain", "sun"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_image(folder / name / "a.png")
    return folder


FILES: dict[str, Callable[[Mapping[str, Any], Path, Path], dict[str, Any]]] = {
    "CLEVR": _clevr,
    "GQA": _gqa,
    "InstructFlamingoMixture": _flamingo_datasets,
    "MimicIt": _mimic_it,
    "Shards": _shard,
    "ScienceQA": _scienceqa,
    "ScreenSpot": _screenspot,
}
"""Datasets that read more than a file of lines."""
