"""Similar images by a tiny random CLIP: the order, ties, and features that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaModel,
)

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.dataset.few_shot import FewShot
from mllm.errors import ConfigError, DataError, ModelError
from mllm.images import FileImage, ImageRef, image_ref
from mllm.models.components import image_statistics
from mllm.models.vision.rices import Rices
from mllm.types import Item, Turn
from tests.pipeline.tiny import Items

SIZES: dict[str, Any] = dict(hidden_size=16, intermediate_size=24, num_attention_heads=2, num_hidden_layers=2)
REDS = (250, 30, 128, 60)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    vision = dict(SIZES, image_size=16, patch_size=8, initializer_range=0.5)
    text = dict(SIZES, vocab_size=40, max_position_embeddings=8, eos_token_id=1, bos_token_id=0, pad_token_id=1)
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=12)).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def paint(path: Path, red: int) -> ImageRef:
    Image.new("RGB", (20, 16), (red, 90, 255 - red)).save(path)
    return FileImage(path=str(path))


def test_the_most_similar_come_last(clip: Path, tmp_path: Path) -> None:
    """Shades of one colour: the order is that of an embedding by hand."""
    asked = [paint(tmp_path / f"q{red}.png", red) for red in (255, 35)]
    shown = [paint(tmp_path / f"{red}.png", red) for red in REDS]
    model = CLIPModel.from_pretrained(clip).eval()
    mean, std = image_statistics(None, CLIPVisionConfig())
    view = SquarePreprocessor(size=16, mean=mean, std=std, tokens=1, placement="crop")
    with torch.no_grad():
        pixels = torch.cat([view(ref.open())["pixels"] for ref in (*asked, *shown)])
        features: Any = model.get_image_features(pixel_values=pixels)
    unit = torch.nn.functional.normalize(features.pooler_output, dim=-1)
    expected = (unit[:2] @ unit[2:].T).argsort(descending=True)[:, :3].tolist()
    assert Rices(vision_tower=str(clip)).nearest(asked, shown, 3).tolist() == expected
    assert [each[0] for each in expected] == [0, 1]

    def items(refs: list[ImageRef], name: str) -> Items:
        turns = (Turn(role="human", text="<image>\n?"), Turn(role="gpt", text="!"))
        return Items([Item(key=f"{name}:{n}", images=(ref,), turns=turns) for n, ref in enumerate(refs)])

    similar = dict(type="rices", vision_tower=str(clip))
    few = FewShot(dataset=items(asked, "q"), demonstrations=items(shown, "d"), shots=3, choose=similar)
    assert [few.chosen(index) for index in range(2)] == [each[::-1] for each in expected]
    assert few[1].demonstrations[-1] == "d:1"
    text = Items([Item(key="t", turns=(Turn(role="human", text="?"),))])
    with pytest.raises(DataError, match="t: images: expected an image, to which similar ones are looked for"):
        FewShot(dataset=text, demonstrations=items(shown, "d"), shots=1, choose=similar)


def test_of_equal_images_the_first_are_taken(clip: Path, tmp_path: Path) -> None:
    same = paint(tmp_path / "a.png", 200)
    shown = [paint(tmp_path / "b.png", 20), same, same, paint(tmp_path / "c.png", 200)]
    assert Rices(vision_tower=str(clip)).nearest([same], shown, 4).tolist() == [[1, 2, 3, 0]]


def test_features_of_files_are_kept_as_long_as_the_files_are_the_same(
    clip: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    inner = Rices._encoded

    def counted(self: Rices, refs: Any) -> Any:
        encoded.append(len(refs))
        return inner(self, refs)

    monkeypatch.setattr(Rices, "_encoded", counted)
    similar = Rices(vision_tower=str(clip), batch_size=1)
    asked, shown = paint(tmp_path / "q.png", 200), [paint(tmp_path / f"{red}.png", red) for red in REDS]
    first = similar.nearest([asked], shown, 2)
    assert (similar.nearest([asked], shown, 2) == first).all()
    assert (encoded, len(list(cache.glob("*.npy")))) == ([5], 1)
    paint(tmp_path / "30.png", 201)
    assert similar.nearest([asked], shown, 1).tolist() == [[1]]
    memory = image_ref(Image.new("RGB", (9, 9)))
    similar.nearest([memory], shown, 1)
    assert (encoded, len(list(cache.glob("*.npy")))) == ([5, 5, 5], 2)


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: b"", lambda data: b"PK\x03\x04" + data])
def test_features_that_were_cut_are_made_again(
    spoil: Callable[[bytes], bytes], clip: Path, tmp_path: Path, cache: Path
) -> None:
    similar = Rices(vision_tower=str(clip))
    asked, shown = paint(tmp_path / "q.png", 200), [paint(tmp_path / f"{red}.png", red) for red in REDS]
    first = similar.nearest([asked], shown, 4).tolist()
    (kept,) = cache.glob("*.npy")
    whole = kept.read_bytes()
    kept.write_bytes(spoil(whole))
    assert similar.nearest([asked], shown, 4).tolist() == first
    assert kept.read_bytes() == whole


def test_features_that_are_not_finite_are_refused(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rices, "_pooled", lambda self, model, pixels: pixels.flatten(1) * float("nan"))
    with pytest.raises(ModelError, match=r"clip\d*: expected image features that are finite"):
        Rices(vision_tower=str(clip)).nearest([paint(tmp_path / "q.png", 9)], [paint(tmp_path / "a.png", 8)], 1)


def test_a_vision_encoder_alone_gives_its_pooled_output(tmp_path: Path) -> None:
    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**SIZES, image_size=16, patch_size=8)).save_pretrained(tmp_path / "vision")
    Dinov2Model(Dinov2Config(**SIZES, image_size=16, patch_size=8)).save_pretrained(tmp_path / "dino")
    shown = [paint(tmp_path / f"{red}.png", red) for red in REDS]
    for name in ("vision", "dino"):
        assert Rices(vision_tower=str(tmp_path / name)).nearest(shown[:1], shown, 1).tolist() == [[0]]
    with pytest.raises(ModelError, match="vision_tower: expected a folder on this machine"):
        Rices(vision_tower=str(tmp_path / "none"))


def test_a_model_that_takes_no_image_alone_is_refused(tmp_path: Path) -> None:
    tiny = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    tiny.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="vision_tower: expected a text-image model or a vision encoder, found str"):
        Rices(vision_tower=str(tmp_path))._pooled(LlamaModel(tiny), torch.zeros(1, 3, 8, 8))
