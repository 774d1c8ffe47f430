"""Questions, captions and choices, read by the datasets they are for."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tools.convert.layouts import (
    AOKVQA,
    AOKVQA_TEST,
    CAPTION,
    GQA,
    KARPATHY,
    NLVR2,
    OKVQA,
    QUESTION,
    ROSETTA,
    TEXTVQA,
    VCR,
    VIZWIZ,
    VQA_E,
    Items,
    JsonLines,
    Run,
    Save,
)


def test_vqav2(run: Run, save: Save, items: Items) -> None:
    shown = run("vqav2")
    (item,) = items("v2_q.jsonl", "VQAv2", "vqa", image_folder="coco")
    assert str(item.images[0]) == "FileImage(path='coco/COCO_train2014_000000458752.jpg')"
    assert len(item.truth.texts) == 10
    assert "1  left out: questions without annotation" in shown
    run("vqav2", save("v2_q.json", {"data_subtype": "test-dev2015", "questions": [QUESTION, QUESTION]}))
    test = items("v2_q.jsonl", "VQAv2", "vqa")
    assert len(test) == 2
    assert "COCO_test2015_000000458752.jpg" in str(test[0].images[0])


def test_okvqa(run: Run, save: Save, items: Items) -> None:
    """Its annotations, as published, do not say which answer is the most frequent."""
    question = {**QUESTION, "question_id": OKVQA["question_id"], "image_id": 297147}
    asked = save("OpenEnded_mscoco_val2014_questions.json", {"data_subtype": "val2014", "questions": [question]})
    run("vqav2", asked, "--annotations", save("mscoco_val2014_annotations.json", {"annotations": [OKVQA]}))
    (item,) = items("OpenEnded_mscoco_val2014_questions.jsonl", "VQAv2", "vqa", answer="<answer>")
    assert item.turns[1].text == "ride"
    assert item.truth.texts == ("race",) * 4 + ("ride",) * 6


def test_textvqa(run: Run, save: Save, items: Items) -> None:
    run("textvqa")
    (item,) = items("textvqa_val.jsonl", "VQAv2", "vqa", image_folder="train_images", answer="<answer>")
    assert item.turns[1].text == "dakota"
    assert len(item.truth.texts) == 10
    assert str(item.images[0]) == "FileImage(path='train_images/003a8ae2ef43b901.jpg')"
    files = save("TextVQA_0.5.1_val.json", {"data": [TEXTVQA]}), "--ocr", save("ocr.json", {"data": [ROSETTA]})
    run("textvqa", *files)
    (item,) = items("textvqa_val_ocr.jsonl", "VQAv2", "vqa")
    assert item.turns[0].text.endswith("of this camera?\nReference OCR token: DAKOTA, DIGITAL")
    hidden = {name: value for name, value in TEXTVQA.items() if name != "answers"}
    run("textvqa", save("TextVQA_0.5.1_test.json", {"data": [hidden]}))
    assert len(items("textvqa_test.jsonl", "VQAv2", "vqa")[0].turns) == 1


def test_vizwiz(run: Run, save: Save, items: Items) -> None:
    run("vizwiz")
    (item,) = items("vizwiz_val.jsonl", "VQAv2", "vqa", image_folder="val", answer="<answer>")
    assert item.turns[1].text == "unanswerable"
    assert str(item.images[0]) == "FileImage(path='val/VizWiz_val_00000000.jpg')"
    hidden = {name: VIZWIZ[name] for name in ("image", "question")}
    run("vizwiz", save("test.json", [hidden]))
    assert len(items("vizwiz_test.jsonl", "VQAv2", "vqa")[0].turns) == 1


def test_karpathy(run: Run, save: Save, items: Items) -> None:
    run("karpathy")
    (item,) = items("CAP_coco_karpathy_test.jsonl", "Caption", "caption", image_folder="coco2014")
    assert item.truth.texts == ("A man with a red helmet.", "Man riding a motor bike.")
    assert str(item.images[0]) == "FileImage(path='coco2014/val2014/COCO_val2014_000000391895.jpg')"
    flickr = {name: value for name, value in KARPATHY.items() if name not in ("filepath", "cocoid")}
    images = [{**flickr, "split": "train", "filename": "1000092795.jpg"}, {**flickr, "sentences": []}]
    shown = run("karpathy", save("dataset_flickr30k.json", {"dataset": "flickr30k", "images": images}))
    (item,) = items("CAP_flickr30k_karpathy_train.jsonl", "Caption", "caption")
    assert str(item.images[0]) == "FileImage(path='1000092795.jpg')"
    assert "1  left out: images without a caption" in shown


def test_imagenet(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    run("imagenet")
    tench, crane = items("imagenet_val.jsonl", "Caption", "caption", image_folder="val")
    assert (tench.truth.texts, crane.truth.texts) == (("tench",), ("construction crane",))
    assert str(crane.images[0]) == "FileImage(path='val/n03126707/ILSVRC2012_val_00000400.JPEG')"
    names = json.loads((tmp_path / "out" / "imagenet_classes.json").read_text())
    assert names == ["tench", "crane", "construction crane"]
    rows = "ILSVRC2012_val_1,n03126707 85 1 499 272 1 2 3 4\nILSVRC2012_val_2,n01440764 1 2 3 4\n"
    save("flat/ILSVRC2012_val_1.JPEG", b"")
    files = "val", str(tmp_path / "LOC_synset_mapping.txt"), "--names", str(tmp_path / "names.json")
    shown = run(
        "imagenet", str(tmp_path / "flat"), *files[1:], "--solution", save("s.csv", f"ImageId,PredictionString\n{rows}")
    )
    (item,) = items("imagenet_flat.jsonl", "Caption", "caption")
    assert item.truth.texts == ("construction crane",)
    assert "1  left out: images that are not in the folder" in shown
    wrong = save("w.csv", "ImageId,PredictionString\na,n9 1 2 3 4\n")
    assert "w.csv:2: expected a class of" in run("imagenet", *files, "--solution", wrong, status=1)


def test_vcr(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    hidden = {name: value for name, value in VCR.items() if not name.endswith("_label")}
    save("vcr1images/lsmdc_1/a.json", {"boxes": [[0, 0, 9, 9, 0.9], [1, 1, 2, 2, 0.8]], "names": VCR["objects"]})
    lost = {**VCR, "metadata_fn": "lsmdc_1/b.json"}
    path = save("val.jsonl", JsonLines([VCR, hidden, lost]))
    shown = run("vcr", path, str(tmp_path / "vcr1images"))
    (item,) = items("vcr_val.jsonl", "VCR", "vqa")
    assert item.turns[0].boxes_seq == ((0,), (1,))
    assert "1  left out: questions without answer (a test split)" in shown
    assert "1  left out: questions whose file of boxes is missing" in shown
    path = save("train.jsonl", JsonLines([{**VCR, "metadata_fn": "../../etc/passwd"}]))
    assert "train.jsonl:1: metadata_fn: expected a file under" in run(
        "vcr", path, str(tmp_path / "vcr1images"), status=1
    )


def test_textcaps(run: Run, save: Save, items: Items) -> None:
    data = [{**CAPTION, "caption_str": text} for text in ("A bus 12.", "A red bus.", "")]
    hidden = {name: value for name, value in CAPTION.items() if name not in ("caption_str", "reference_strs")}
    shown = run("textcaps", save("TextCaps_0.1_val.json", {"data": [*data, hidden]}))
    (item,) = items("CAP_textcaps_val.jsonl", "Caption", "caption", image_folder="train_images")
    assert item.truth.texts == ("A bus 12.", "A red bus.")
    assert str(item.images[0]) == "FileImage(path='train_images/0054c91397f2fe05.jpg')"
    assert "2  left out: records without a caption" in shown


def test_nlvr2(run: Run, save: Save, items: Items) -> None:
    run("nlvr2")
    (item,) = items("nlvr2_train.jsonl", "InstructFlamingo", image_folder="nlvr2")
    assert [str(ref) for ref in item.images] == [
        f"FileImage(path='nlvr2/images/train/39/train-10171-0-img{side}.png')" for side in (0, 1)
    ]
    assert item.turns[1].text == "false"
    held_out = {name: value for name, value in NLVR2.items() if name != "directory"}
    run("nlvr2", save("test1.json", JsonLines([{**held_out, "identifier": "test1-0-1-0"}])))
    (item,) = items("nlvr2_test1.jsonl", "InstructFlamingo")
    assert [str(ref) for ref in item.images] == [f"FileImage(path='test1/test1-0-1-img{side}.png')" for side in (0, 1)]


def test_aokvqa(run: Run, save: Save, items: Items) -> None:
    questions = [AOKVQA, {**AOKVQA, "question": " "}, {**AOKVQA, "difficult_direct_answer": True}]
    shown = run("aokvqa", save("aokvqa_v1p0_train.json", questions))
    choice, _ = items("aokvqa_v1p0_train.jsonl", "AOKVQA", "choice", image_folder="coco2017")
    assert choice.truth.texts == ("B",)
    assert str(choice.images[0]) == "FileImage(path='coco2017/000000299207.jpg')"
    (direct,) = items("aokvqa_v1p0_train.jsonl", "AOKVQA", "vqa", task="direct", reason=True)
    assert direct.turns[1].text == "A train would not be on the street. The answer is ride."
    assert "1  left out: questions without a word" in shown
    run("aokvqa", save("aokvqa_v1p0_test.json", [AOKVQA_TEST]))
    (test,) = items("aokvqa_v1p0_test.jsonl", "AOKVQA", "choice")
    assert len(test.turns) == 1


def test_scienceqa(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    run("scienceqa")
    seen, blind = items("scienceqa_train.jsonl", "ScienceQA", "problem", explained="before", image_folder="sqa")
    assert seen.turns[0].text.startswith("<image>\nWhich is farthest north?\n(A) Ohio (B) Utah\n")
    assert seen.turns[1].text == "Maps have four directions. Look at the map. The answer is A."
    assert str(seen.images[0]) == "FileImage(path='sqa/train/1/image.png')"
    assert blind.images == ()
    assert seen.key.endswith("scienceqa_train.jsonl:1")
    assert len(items("scienceqa_train.jsonl", "ScienceQA", "problem", pictures="with")) == 1
    files = str(tmp_path / "problems.json"), save("pid_splits.json", {"train": ["1", "9"], "minival": []})
    assert "1  left out: ids that are not in problems.json" in run("scienceqa", *files, "--split", "train")
    unknown = run("scienceqa", *files, "--split", "minvial", status=1)
    assert "pid_splits.json: 'minvial' is not among its splits; did you mean 'minival'" in unknown


def test_gqa(run: Run, save: Save, items: Items) -> None:
    hidden = {name: GQA[name] for name in ("imageId", "question", "isBalanced")}
    parts = [save(f"train_all_questions_{n}.json", {f"0{n}": GQA, f"1{n}": hidden}) for n in range(2)]
    shown = run("gqa", *parts)
    first, second = items("gqa_train_all.jsonl", "GQA", "vqa", image_folder="gqa")
    assert (first.key[-2:], second.key[-2:]) == (":1", ":2")
    assert first.turns[1].text == "The answer is yes."
    assert str(first.images[0]) == "FileImage(path='gqa/2354786.jpg')"
    assert "2  left out: questions without answer (a test split)" in shown
    scenes = save("train_sceneGraphs.json", {"2354786": {"objects": {"722": {"x": 1, "y": 2, "w": 30, "h": 40}}}})
    pointing = items("gqa_train_all.jsonl", "GQA", "vqa_reason_boxes", version="q-bc", scene_graphs=scenes)[0]
    assert pointing.turns[1].text == "Yes, the wall<boxes> is white. The answer is yes."
    assert pointing.boxes[0].xyxy == (1, 2, 31, 42)


def test_vqa_e(run: Run, save: Save, items: Items) -> None:
    run("vqa_e")
    (item,) = items("vqa_E_val.jsonl", "VQAReason", "vqa_reason", kind="vqa_e", image_folder="coco2014")
    assert item.turns[1].text == "It has rained. So the answer is yes."
    assert str(item.images[0]) == "FileImage(path='coco2014/val2014/COCO_val2014_000000000009.jpg')"
    shown = run("vqa_e", save("VQA-E_train_set.json", [VQA_E, {**VQA_E, "explanation": ["", 0.1]}]))
    assert "1  left out: explanations without a word" in shown
    (item,) = items("vqa_E_train.jsonl", "VQAReason", "vqa_reason", kind="vqa_e")
    assert "train2014/COCO_train2014_000000000009.jpg" in str(item.images[0])
