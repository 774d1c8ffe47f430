"""Published sizes in place of folders that are not there."""

from __future__ import annotations

from pathlib import Path

from mllm.commands.model.published import PUBLISHED_PARTS, with_published_sizes
from mllm.commands.model.show import skeleton
from mllm.config.config import read
from mllm.conversation.tokenizer_training import blank_tokenizer

ROOT = Path(__file__).parents[3]


def test_with_published_sizes_counts_the_parameters_of_llava_v1_7b() -> None:
    cfg = read(ROOT / "config" / "rec_llava_v1_7b_fsdp.py").to_dict()
    args, replaced = with_published_sizes(cfg["model_args"])
    assert replaced == ["checkpoints/llava-v1-7b"]
    _, model = skeleton(args, tokenizer=blank_tokenizer())
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in model.named_children()}
    assert counts["language_model"] == 6_738_415_616  # LLaMA 7B
    assert counts["vision_tower"] == 303_179_776  # CLIP ViT-L/14 without its projection
    assert counts["connector"] == 1024 * 4096 + 4096


def test_with_published_sizes_replaces_parts() -> None:
    given = {"type": "llava", "vision_tower": "a/clip-vit-large-patch14-336", "language_model": "b/vicuna-7b-v1.5"}
    args, replaced = with_published_sizes(given)
    assert replaced == ["a/clip-vit-large-patch14-336", "b/vicuna-7b-v1.5"]
    assert args["vision_tower"] == PUBLISHED_PARTS["clip-vit-large-patch14-336"]
    assert args["language_model"]["max_position_embeddings"] == 4096


def test_with_published_sizes_leaves_folders_and_unknown_names(tmp_path: Path) -> None:
    (tmp_path / "vicuna-7b-v1.5").mkdir()
    given = {"language_model": str(tmp_path / "vicuna-7b-v1.5"), "vision_tower": "checkpoints/mine"}
    assert with_published_sizes(given) == (given, [])
