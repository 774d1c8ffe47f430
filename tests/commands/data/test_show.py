from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mllm.cli import main
from mllm.commands.data.reader import make_processor
from mllm.commands.data.show import segments
from mllm.commands.data.stand_in import make_stand_in
from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.models.adapters.injection import as_base, inject_adapters, save_adapted
from mllm.models.adapters.settings import Adapters
from mllm.models.prompt_format import PromptFormat, save_prompt_format
from mllm.records import read_item
from mllm.registry import CODECS, MODELS, TEMPLATES
from tests.commands.data.broken import PHOTOS, break_photos, rec, write
from tests.conftest import make_tokenizer
from tests.pipeline.tiny import save_stand_in


def pieces(page: str) -> list[tuple[str, str]]:
    """(mark or p, text) of a page's first prompt."""
    prompt = page.split('<p class="prompt">')[1].split("</p>")[0]
    found = re.findall(r"<mark>(.*?)</mark>|(?:^|(?<=</mark>))((?:(?!<mark>).)+)", prompt, re.DOTALL)
    plain = [("mark", learned) if learned else ("p", other) for learned, other in found]
    return [(kind, unescape(re.sub("<[^>]+>", "", text))) for kind, text in plain]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path, dict(train=rec(PHOTOS / "train.jsonl"), test=rec(PHOTOS / "heldout.jsonl")))


def show(config: Path, *arguments: str) -> str:
    out = config.parent / "page.html"
    assert main(["data", "show", str(config), "--out", str(out), *arguments]) == 0
    return out.read_text(encoding="utf-8")


def test_the_page_shows_what_is_learned_and_where_it_lies(config: Path) -> None:
    page = show(config, "--split", "test", "--index", "0")
    (_, asked), *learned = pieces(page)
    assert asked.startswith("USER: <image> \u00d7 4↵\nWhere is the only bed?")
    assert asked.endswith("ASSISTANT:")
    assert "".join(text for _, text in learned) == " Answer: [0.405,0.476,0.961,0.819] .</s>"
    assert {kind for kind, _ in learned} == {"mark"}
    # 640 x 419, padded to a square, is seen on 32 x 32
    card = page.split("<article")[1]
    rects = re.findall(r'<rect class="mark"(?: stroke="#56b4e9")? x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', card)
    true = [258.93 / 20, (194.91 + 110) / 20, (614.85 - 258.93) / 20]
    for drawn in rects:
        assert [float(value) for value in drawn] == pytest.approx(true, abs=0.03)
    assert len(rects) == 2  # the file's, and what the text reads back as
    assert "reads back with IoU 1.00" in page


def test_the_page_fetches_nothing(config: Path) -> None:
    page = show(config)
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count("<article") == 12


def test_items_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    broken, _ = break_photos(tmp_path)
    page = show(broken, "--split", "train", "--index", "0", "13", "18")
    assert page.count("Not read: ") == 2
    assert f"0 · {tmp_path}/lines.jsonl:1<" in page
    assert f"13 · {tmp_path}/lines.jsonl:14<" in page
    assert "gone.jpg: no such image" in page
    assert unescape(page).count("USER: ") == 1


def test_the_whole_broken_copy_is_shown_with_what_check_says_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, _ = break_photos(tmp_path)
    page = unescape(show(broken, "--count", "100"))
    assert f"test: {tmp_path}/gone.jsonl: cannot be read: No such file or directory\n" in capsys.readouterr().err
    assert page.count("<article") == 85 + 1 + 1
    assert "empty.jsonl<" in page
    assert "expected at least one record, found none" in page
    assert "gone.jsonl<" in page
    assert "expected a box inside the 640 x 422 image, found [20, 30, 700, 90]" in page
    assert "width, height: expected 640 x 422, the image's, found 320 x 211" in page
    assert main(["data", "show", str(broken), "--text", "--split", "train", "--index", "11", "23"]) == 0
    out = capsys.readouterr().out
    assert "wrong: target.boxes[0]: expected a box with an area, found [20, 30, 20, 90]\n" in out
    assert r"images/\x1b[2J\n.jpg: no such image" in out
    assert "\x1b" not in out


def test_where_nothing_can_be_read_the_status_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = ["--split", "train", "--stand-in", "--cfg-options", "data_args.train.filename=gone.jsonl"]
    assert main(["data", "show", str(config), "--text", *gone]) == 1
    assert main(["data", "show", str(config), "--out", str(config.parent / "page.html"), *gone]) == 1
    assert "train: gone.jsonl: cannot be read: No such file" in capsys.readouterr().err


def test_text_holds_nothing_that_a_terminal_obeys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [{"from": "human", "value": "a\x1b[31m\tb\nc"}, {"from": "gpt", "value": "d\x07"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"conversations": said}) + "\n")
    config = write(tmp_path, dict(train=dict(type="Instruct", filename=str(tmp_path / "a.jsonl"))))
    assert main(["data", "show", str(config), "--text", "--stand-in"]) == 0
    assert "USER: a\\x1b[31m\tb\nc ASSISTANT:⟦ d\\x07</s>⟧" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["page.html/page.html", "."])
def test_a_page_that_cannot_be_written(
    out: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.html").write_text("")
    assert main(["data", "show", str(config), "--out", str(tmp_path / out), "--count", "1"]) == 1
    assert f"ConfigError: {tmp_path / out}: cannot be written: " in capsys.readouterr().err


def test_text_marks_the_answer(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(config), "--text", "--split", "test", "--index", "0"]) == 0
    out = capsys.readouterr().out
    assert "ASSISTANT:⟦ Answer: [0.405,0.476,0.961,0.819] .</s>⟧" in out
    assert "<image> x 4\n" in out
    assert "box 1 [258.93, 194.91, 614.85, 414.29], answer, its text reads back with IoU 1.00" in out


def test_every_answer_is_read_back(tmp_path: Path) -> None:
    said = [
        {"from": "human", "value": "<image>\nWhat is in <boxes>?", "boxes_seq": [[1]]},
        {"from": "gpt", "value": "A cup <boxes>.", "boxes_seq": [[0]]},
        {"from": "human", "value": "And?"},
        {"from": "gpt", "value": "A spoon <boxes> with its handle <points>.", "boxes_seq": [[2]], "points_seq": [[0]]},
    ]
    target = {"boxes": [[10, 20, 90, 200], [1, 2, 300, 400], [50, 60, 70, 80]], "points": [[55, 66]]}
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"image": "000000000790.jpg", "conversations": said, "target": target}) + "\n"
    )
    data = dict(train=dict(type="Instruct", filename=str(tmp_path / "a.jsonl"), image_folder=str(PHOTOS / "images")))
    page = show(write(tmp_path, data), "--stand-in")
    listed = re.findall(r'<span class="number" .*?>(\d)</span><span>(.*?)</span>', page)
    assert [(number, "answer" in text, "reads back" in text) for number, text in listed] == [
        ("1", True, True), ("2", False, False), ("3", True, True), ("4", True, True)
    ]  # fmt: skip
    assert re.search(r"reads back 0\.\d px away", listed[3][1])
    assert page.count('<g class="read">') == 3
    assert page.count('class="number tag file') == 4


def test_regions_of_several_images_are_read_back_on_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("a.png", (640, 480)), ("b.png", (300, 200))):
        Image.new("RGB", size).save(tmp_path / name)
    record = {
        "images": ["a.png", "b.png"],
        "target": {"boxes": [[1, 2, 300, 400], [10, 10, 200, 150]], "boxes_image": [0, 1]},
        "conversations": [
            {"from": "human", "value": "<image><image>\nFind dogs."},
            {"from": "gpt", "value": "Here <boxes>, there <boxes>.", "boxes_seq": [[0], [1]]},
        ],
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    dataset = dict(type="Instruct", filename=str(tmp_path / "a.jsonl"), image_folder=str(tmp_path))
    assert main(["data", "show", str(write(tmp_path, dict(train=dataset))), "--stand-in", "--text"]) == 0
    assert len(re.findall(r"text reads back with IoU (?:1\.00|0\.99)", capsys.readouterr().out)) == 2


def test_the_page_lies_beside_the_outputs(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(config.parent)
    assert main(["data", "show", str(config), "--count", "1"]) == 0
    assert (config.parent / "outputs" / "config" / "data.html").is_file()


def test_an_index_that_is_not_there_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(config), "--index", "99"]) == 1
    assert "--index: expected an item of train, 0 to 41, found 99" in capsys.readouterr().err


def test_a_folder_without_weights_is_enough(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_stand_in(folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    processor = make_processor({"type": "llava", "model_name_or_path": str(folder)}, {}, None)
    assert processor.view.placeholder_tokens((40, 20)) == "<image>" * 4


def test_adapters_are_read_as_their_base(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_stand_in(base)
    tokenizer = make_tokenizer()
    args = {"type": "llava", "model_name_or_path": str(base)}
    model = MODELS.make(args, tokenizer=tokenizer)
    inject_adapters(model, Adapters(type="lora", targets=("language_model",)), as_base(args))
    folder = tmp_path / "adapters"
    save_adapted(model, str(folder))
    save_prompt_format(folder, "llava", PromptFormat(codec="ferret", template="otter"))
    tokenizer.save_pretrained(folder)
    processor = make_processor({"type": "llava", "model_name_or_path": str(folder)}, {}, None)
    assert (type(processor.codec).__name__, type(processor.template).__name__) == ("Ferret", "Otter")


@pytest.mark.parametrize("template", ["vicuna_v1", "chat", "otter", "plain"])
@pytest.mark.parametrize("codec", ["shikra", "bins", "kosmos2", "molmo"])
def test_a_stand_in_reads_every_convention(template: str, codec: str) -> None:
    record = {
        "image": Image.new("RGB", (40, 20)),
        "target": {"points": [[3, 4]]} if codec == "molmo" else {"boxes": [[3, 4, 10, 20]]},
        "conversations": [
            {"from": "human", "value": "<image>\nWo ist die Tür? "},
            {"from": "gpt", "value": "<points>", "points_seq": [[0]]}
            if codec == "molmo"
            else {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
        ],
    }
    processor = make_stand_in(
        {"type": "llava", "model_name_or_path": "/gone", "codec": codec, "template": template}, {}
    )
    example = processor.encode(read_item(record, key="a:1"), 0)
    found = list(segments(example, processor))
    assert sum(segment.count for segment in found) == len(example.input_ids)
    assert [segment.count for segment in found if segment.kind == "image"] == [576]
    assert any(segment.learned for segment in found)
    assert ("Tür" in "".join(segment.text for segment in found)) == (template != "plain")


@pytest.mark.parametrize("model", [{}, {"type": "hf", "model_name_or_path": "/gone", "codec": "ferret"}])
def test_a_stand_in_needs_no_model(model: dict[str, Any]) -> None:
    processor = make_stand_in(model, {"max_length": 7})
    assert type(processor.codec) is type(CODECS.make(model.get("codec", "shikra")))
    assert processor.max_length == 7


def test_a_decoder_that_drops_leading_spaces_drops_none_here() -> None:
    """As the sentencepiece tokenizers of LLaMA do: `▁There` alone reads `There`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = ["<s>", "</s>", "<image>", "▁There", "."]
    bare = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="."))
    bare.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Punctuation()]
    )
    bare.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>")
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.add_tokens(["\n"])
    view = SquarePreprocessor(size=8, mean=(0, 0, 0), std=(1, 1, 1), tokens=2)
    processor = Processor(tokenizer=tokenizer, template=TEMPLATES.make("plain"), codec=CODECS.make("shikra"), view=view)
    record: dict[str, Any] = {
        "image": Image.new("RGB", (8, 8)),
        "conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": " There."}],
    }
    found = list(segments(processor.encode(read_item(record, key="a:1"), 0), processor))
    assert tokenizer.decode(3) == "There"
    assert found[-1].text == " There.\n"
