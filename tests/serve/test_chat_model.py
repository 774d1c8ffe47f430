"""A loaded model: whatever folder it comes from, one question and many have the same answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mllm
from mllm import cli
from mllm.conversation.collator import Collator
from mllm.errors import ConfigError, DataError, ModelError
from mllm.models.parts import is_quantized
from mllm.pipeline.build import build_model
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.serve.chat_model import ChatModel, load
from mllm.serve.question import Message
from mllm.types import Box
from tests.marks import slow_but
from tests.models.tiny_hf import save_tiny
from tests.pipeline.tiny import SCENES, save_stand_in, write_config
from tests.stand_ins import model_parts

OLD = Path(__file__).parents[1] / "assets" / "saved_before_rooms"
RED, BLUE = Image.new("RGB", (40, 30), (200, 30, 30)), Image.new("RGB", (30, 40), (20, 30, 230))


@pytest.fixture(scope="module")
def model(trained: Path) -> ChatModel:
    return mllm.load(trained, device="cpu")


def test_a_folder_of_an_earlier_version_loads_and_has_its_loss() -> None:
    """Saved, and its loss measured, by the last commit before modules were moved into rooms."""
    model = load(OLD, device="cpu")
    image = Image.new("RGB", (40, 30), (200, 30, 30))
    image.paste((10, 200, 40), (5, 5, 20, 20))
    turns = [
        {"from": "human", "value": "<image>\nWhere is it?"},
        {"from": "gpt", "value": "There <boxes>", "boxes_seq": [[0]]},
    ]
    item = read_item({"image": image, "target": {"boxes": [[5, 5, 20, 20]]}, "conversations": turns}, key="")
    sample = model.processor.encode(item, 0)
    assert sample.input_ids.tolist()[-9:] == [326, 223, 389, 397, 399, 403, 405, 391, 1]
    batch = dict(Collator(pad_token_id=0)([sample]))
    del batch["index"], batch["label_sources"]
    assert model.model(**batch).loss.item() == pytest.approx(5.990898, abs=1e-4)


def test_a_folder_says_how_its_model_is_spoken_to(trained: Path) -> None:
    for folder in (trained, trained / "checkpoint-2"):
        model = load(folder)
        assert model.processor.codec.tokens[-1] == "<bin_16>"
        assert model.processor.stop == "</s>"


def test_another_codec_than_the_trained_one_is_said(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    build_model({"type": "llava", "model_name_or_path": str(trained), "codec": "shikra"}, {}, None)
    assert "trained with codec {'type': 'bins', 'bins': 17}; this run uses shikra" in caplog.text


def adapters(folder: Path, **model_args: Any) -> Path:
    save_stand_in(folder / "base")
    lora = {"type": "lora", "targets": ["language_model"], "r": 2, "unfrozen": ["connector", "embeddings"]}
    named = {"model_name_or_path": str(folder / "base"), "adapters": lora, **model_args}
    config = write_config(folder, training_args={"max_steps": 1}, model_args=named)
    assert cli.main(["train", str(config), "--output_dir", str(folder / "out")]) == 0
    return folder / "out"


def quantised(folder: Path) -> Path:
    pytest.importorskip("bitsandbytes")
    return adapters(folder, quantization={"type": "bitsandbytes", "bits": 4})


def of_transformers(folder: Path) -> Path:
    return save_tiny("qwen2_5_vl", folder / "base")


def flamingo(folder: Path) -> Path:
    """A config that names a Flamingo's parts, among them the folder of its tokenizer."""
    parts = model_parts(
        {
            "type": "openflamingo",
            "vision_tower": "clip",
            "language_model": "redpajama",
            "tokenizer": "flamingo",
            "cross_attn_every_n_layers": 2,
            "template": "openflamingo",
            "codec": "shikra",
        },
        folder,
    )
    path = folder / "flamingo.py"
    path.write_text(f"model_args = {parts!r}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "make", slow_but([adapters, of_transformers], [adapters, quantised, of_transformers, flamingo])
)
def test_load_reads_every_kind_of_folder_and_answers_many_as_one_by_one(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    model = load(make(tmp_path), device="cpu")
    texts = ["Where is the red circle?", "the blue square left of the green triangle", "circle"]
    asked = [Message(role="user", text=text, images=[image]) for text in texts for image in (RED, BLUE)]
    together = model.answer(asked, batch_size=4, max_new_tokens=6)
    alone = [model.chat(list(message.images), message.text, max_new_tokens=6) for message in asked]
    assert together == alone
    assert all(answer.tokens for answer in alone)
    pieces = model.chat(RED, texts[0], max_new_tokens=6, stream=True)
    assert "".join(piece.text for piece in pieces) == alone[0].text
    assert pieces.answer == alone[0]


def test_load_quantises_a_whole_model(trained: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = load(trained, device="cpu", quantization={"type": "bitsandbytes", "bits": 8}, dtype="float32")
    assert any(is_quantized(parameter) for parameter in model.model.parameters())
    assert model.chat(RED, "Where is it?", max_new_tokens=3).tokens


def test_load_says_what_a_folder_of_transformers_leaves_open(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = str(tmp_path / "out")
    assert cli.main(["checkpoint", "export", str(trained), out]) == 0
    load(out, device="cpu", codec="shikra", template="vicuna_v1")
    assert "assumed" not in caplog.text
    load(out, device="cpu", template="vicuna_v1")
    assert "out does not record its prompt format; codec 'shikra' and template 'vicuna_v1' are assumed" in caplog.text
    codec = {"type": "bins", "bins": 17}
    again = load(out, device="cpu", codec=codec, template={"type": "vicuna_v1", "system": ""})
    asked: Any = dict(max_new_tokens=6)
    assert again.chat(RED, "Where?", **asked).text == load(trained, device="cpu").chat(RED, "Where?", **asked).text


def test_a_model_of_text_alone_answers_and_takes_no_image(tmp_path: Path) -> None:
    save_stand_in(tmp_path, "seq2seq")
    model = load(tmp_path, device="cpu", type="seq2seq")
    assert model.chat(None, "Where is it?", max_new_tokens=3).tokens
    with pytest.raises(DataError, match=r"question: expected text alone, found 1 image\(s\): the model takes none"):
        model.chat(RED, "Where is it?")


def test_a_video_is_a_list_of_frames(tmp_path: Path) -> None:
    model = load(flamingo(tmp_path), device="cpu")
    answer = model.chat([[RED, RED], BLUE], "What happens?", max_new_tokens=2)
    assert answer.item.turns[0].text == "<image><image>\nWhat happens?"
    assert len(answer.item.images) == 2


def test_questions_about_one_image_share_its_reading(model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    really = model.model.generate_with_shared_prefix

    def spy(input_ids: Any, *given: Any, **more: Any) -> Any:
        read.append(len(input_ids))
        return really(input_ids, *given, **more)

    monkeypatch.setattr(model.model, "generate_with_shared_prefix", spy)
    image = RED.copy()
    model.answer([Message(role="user", text=f"Where is {n}?", images=[image]) for n in "abc"], max_new_tokens=3)
    assert read == [1]


def test_the_answer_is_that_of_the_pipeline(trained: Path, model: ChatModel) -> None:
    """The prediction file of an evaluation holds the same text for the same question and image."""
    items = DATASETS.make({**SCENES, "count": 2, "seed": 2})
    turns = items[0].prompt
    answer = model.chat(items[0].images[0].open(), turns[0].text, max_new_tokens=8)
    assert model.answer([items[0], items[1]], max_new_tokens=8)[0].text == answer.text
    out = trained.parent / "predicted"
    command = ["predict", str(trained / "config.py"), "--output_dir", str(out), "--cfg-options"]
    options = [f"model_args.model_name_or_path={trained}", "data_args.test.count=1", "data_args.multitest={}"]
    assert cli.main([*command, *options]) == 0
    line = json.loads((out / "test_extra_prediction.jsonl").read_text().splitlines()[0])
    assert answer.text == line["text"]


def test_questions_hold_images_boxes_and_points(model: ChatModel, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    generate = model.model.generate

    def spy(input_ids: Any, **arguments: Any) -> Any:
        asked.append(model.processor.tokenizer.decode(input_ids[0]).replace(" ", ""))
        return generate(input_ids, **arguments)

    monkeypatch.setattr(model.model, "generate", spy)
    model.chat(photo, "What is in <boxes> at <points>?", boxes=[(0, 0, 32, 32)], points=[(32, 0)], max_new_tokens=1)
    assert asked[0].count("<image>") == 4
    assert "in<b_st><bin_0><bin_0><bin_16><bin_16><b_ed>at<p_st><bin_16><bin_0><p_ed>?" in asked[0]
    second = Box(x1=0, y1=0, x2=16, y2=32, image=1)
    model.chat([photo, photo], "<boxes>?", boxes=[[second, second]], max_new_tokens=1)
    assert asked[1].count("<image>") == 8
    assert "<b_st><bin_0><bin_0><bin_8><bin_16><b_sep><bin_0>" in asked[1]
    model.chat(None, "Hello", system="the red circle.", max_new_tokens=1)
    assert "theredcircle.USER:Hello" in asked[2]
    with pytest.raises(DataError, match="expected a box for each of its 1 <boxes>, found 0"):
        model.chat(photo, "What is in <boxes>?")


def test_a_question_has_a_word(model: ChatModel) -> None:
    with pytest.raises(DataError, match="question: text: expected a text with a word, found ' '"):
        model.chat(None, " ")


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="names the type of the model"):
        load(tmp_path)
    with pytest.raises(ModelError, match="expected the folder of a trained model, or a config"):
        load(tmp_path / "gone")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="names the type of the model"):
        load(tmp_path)


def test_load_refuses_a_device_that_is_not_there(trained: Path) -> None:
    with pytest.raises(ConfigError, match="expected a device that can be used, found 'toaster'"):
        load(trained, device="toaster")


def test_load_needs_a_config_whose_tokenizer_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an existing tokenizer, as this run does not train"):
        load(write_config(tmp_path))


def test_answer_names_the_question_that_cannot_be_asked(model: ChatModel) -> None:
    good = Message(role="user", text="Hi")
    with pytest.raises(DataError, match=r"questions\[1\]: text: expected a text with a word"):
        model.answer([good, Message(role="user", text="")])
    with pytest.raises(ConfigError, match="batch_size: expected a whole number of at least 1, found int '0'"):
        model.answer([good], batch_size=0)
    assert model.answer([]) == []


def test_the_notebook_runs_from_top_to_bottom(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root / "examples")
    monkeypatch.setenv("MLLM_MODEL", str(trained))
    notebook = json.loads((root / "examples" / "ask.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "the notebook is committed without outputs"
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102, our own file
    assert "answered" in capsys.readouterr().out
