"""Few-shot evaluation from config to files: prompts, images and answers as if they were put together by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from mllm.config.data_args import Ranking
from mllm.conversation.collator import Collator
from mllm.models.llava.model import Llava
from mllm.pipeline.evaluate import Loader, predict
from mllm.pipeline.finetune import main
from mllm.pipeline.ranking import rank
from mllm.registry import DATASETS
from mllm.types import Prediction
from tests.launch.launching import LAUNCH, launch
from tests.marks import grid
from tests.pipeline.packed import LANGUAGE_MODELS, build
from tests.pipeline.tiny import SCENES, write_config

ASKED = dict(SCENES, count=7, seed=2)
SHOWN = dict(SCENES, count=20, seed=9)
FEW: dict[str, Any] = dict(type="FewShot", dataset=ASKED, demonstrations=SHOWN, shots=2)
FLAMINGO: dict[str, Any] = dict(
    type="openflamingo",
    without=("connector", "feature_layer"),
    perceiver=dict(depth=1, latents=3, heads=2, head_width=4),
    cross_attn_every_n_layers=1,
    template=dict(type="openflamingo", prompt="{question}", separator="\n"),
)
MODELS: dict[str, dict[str, Any]] = {"llava": {}, "flamingo": FLAMINGO}


def model_of(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    text = {**LANGUAGE_MODELS["llama"], "initializer_range": 0.3}
    _, processor, model = build(language_model=text, **MODELS[name])
    with torch.no_grad():
        for parameter, value in model.named_parameters():
            if parameter.endswith("_gate"):
                value.fill_(0.8)
    return processor, model.eval()


def answers(model: Any, processor: Any, items: Any, size: int) -> list[Prediction]:
    loader = Loader(collator=Collator(pad_token_id=processor.tokenizer.pad_token_id), batch_size=size)
    generation = dict(max_new_tokens=6, repetition_penalty=1.5)
    given = (model, items, processor, loader, Accelerator(cpu=True))
    return list(predict(*given, generation=generation, description=""))


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_a_prompt_put_together_by_hand(name: str) -> None:
    """Its text, one image after the other, and nothing else."""
    processor, model = model_of(name)
    few = DATASETS.make(FEW)
    found = answers(model, processor, few, 3)
    assert len({prediction.text for prediction in found}) > 1
    asked, shown = DATASETS.make(ASKED), DATASETS.make(SHOWN)
    for index in (0, 3):
        parts = [shown[number] for number in few.chosen(index)] + [asked[index]]
        pixels = torch.cat([processor.view(part.images[0].open())["pixels"] for part in parts])
        slot = "<image>" * (4 if name == "llava" else 1)
        words = ""
        for place, part in enumerate(parts):
            question = part.turns[0].text.removeprefix("<image>\n")
            if name == "llava":
                words += f"USER: {slot}\n{question} ASSISTANT:"
            else:
                words += f"{chr(10) if place else ''}{slot}{question}"
            if place < 2:
                box = processor.renderer.codec_of(part).on(0).write_boxes(part.truth.boxes)
                words += f" {box}</s>" if name == "llava" else f"{box}<|endofchunk|>"
        ids = processor.encode(few[index], index, answer=False).input_ids
        assert processor.tokenizer.decode(ids, skip_special_tokens=False).replace(" ", "") == words.replace(" ", "")
        made = model.generate(ids[None], pixels=pixels, max_new_tokens=6, repetition_penalty=1.5, do_sample=False)
        assert processor.decode(made[0].tolist(), few[index], index).text == found[index].text
        assert found[index].demonstrations == tuple(part.key for part in parts[:-1])


@pytest.mark.parametrize(("name", "choose"), grid([*MODELS], ["random", "common"]))
def test_answers_do_not_depend_on_the_batch(name: str, choose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Common demonstrations are read once for the questions of a batch, which have an image each."""
    processor, model = model_of(name)
    few = DATASETS.make(dict(FEW, choose=choose))
    rows: list[int] = []
    inner = Llava.generate_with_shared_prefix

    def counted(self: Any, input_ids: Any, *arguments: Any, **named: Any) -> Any:
        rows.append(len(input_ids))
        return inner(self, input_ids, *arguments, **named)

    monkeypatch.setattr(Llava, "generate_with_shared_prefix", counted)
    found = [answers(model, processor, few, size) for size in (1, 3, 8)]
    assert found[0] == found[1] == found[2]
    if name == "llava":
        assert rows == [*[1] * 7, *([1, 1, 1] if choose == "common" else [3, 3, 1]), 1 if choose == "common" else 7]
        ranking = Ranking(candidates=["red", "the blue circle", "red square"])
        loader = Loader(collator=Collator(pad_token_id=processor.tokenizer.pad_token_id), batch_size=4)
        given = (model, few, processor, loader, Accelerator(cpu=True))
        ranked = [list(rank(*given, ranking=ranking, description=""))]
        monkeypatch.setattr(Llava, "branches_hold_images", False)
        ranked.append(list(rank(*given, ranking=ranking, description="")))
        for one, other in zip(*ranked, strict=True):
            assert one.candidate_scores == pytest.approx(other.candidate_scores, abs=1e-5)
        assert answers(model, processor, few, 8) == found[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model and a few-shot evaluation by one process, with boxes and with counts."""
    folder = tmp_path_factory.mktemp("few_shot")
    counts = dict(FEW, dataset=dict(ASKED, tasks=["count"]), demonstrations=dict(SHOWN, tasks=["count"]))
    tests = dict(
        boxes=dict(cfg=FEW, compute_metric="REC"),
        counts=dict(cfg=dict(counts, choose="common"), compute_metric="ExactMatch"),
        texts=dict(cfg=dict(counts, shots=0, text_only=2), compute_metric="ExactMatch"),
    )
    config = str(write_config(folder, data_args=dict(test=None, multitest=tests)))
    assert main([config, "--do_train", "True", "--max_steps", "1", "--output_dir", str(folder / "trained")]) == 0
    flags = [config, "--do_predict", "True", "--cfg-options", f"model_args.model_name_or_path={folder / 'trained'}"]
    assert main([*flags, "--output_dir", str(folder / "one")]) == 0
    return folder


def test_predictions_name_the_demonstrations(folder: Path) -> None:
    for name in ("boxes", "counts", "texts"):
        path = folder / "one" / f"multitest_{name}_extra_prediction.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert [record["key"] for record in records] == [f"scenes seed 2:{number}" for number in range(7)]
        assert all(len(record["demonstrations"]) == 2 for record in records)
        assert len({tuple(record["demonstrations"]) for record in records}) == (1 if name == "counts" else 7)
        assert len({record["image"] for record in records}) == 7
    results = json.loads((folder / "one" / "multitest_boxes_results.json").read_text())
    assert results["about"]["data"]["items"] == 7


@pytest.mark.slow
def test_two_processes_leave_the_files_of_one(folder: Path) -> None:
    flags = [str(folder / "one" / "config.py"), "--do_predict", "True", "--output_dir", str(folder / "two")]
    launch(*LAUNCH["ddp"], "tests/launch/runs.py", json.dumps([flags]))
    for name in ("boxes", "counts", "texts"):
        file = f"multitest_{name}_extra_prediction.jsonl"
        assert (folder / "one" / file).read_text() == (folder / "two" / file).read_text()
