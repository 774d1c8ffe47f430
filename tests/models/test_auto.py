"""Folders from strangers: their code is never run, their settings take no memory that their weights do not justify."""

from __future__ import annotations

import ast
import builtins
import json
import os
import pickle
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, T5Config

import mllm
from mllm.errors import MllmError, ModelError
from mllm.models.adapters.injection import SETTINGS, base_of, inject_adapters, save_adapted
from mllm.models.adapters.settings import read_adapters
from mllm.models.auto import read_config, read_generation_config, read_image_processor
from mllm.models.checkpoints.lazy import open_file
from mllm.models.components import load_causal_lm, vision_encoder
from mllm.models.flamingo.builder import load_flamingo
from mllm.models.flamingo.otter import load_otter, save_otter
from mllm.models.llava.transformers_layout import load_llava
from mllm.registry import MODELS
from mllm.tokenizer_files import load_tokenizer
from tests.models import tiny, tiny_flamingo, tiny_hf

PLAIN: dict[str, Any] = {"dtype": "auto", "attn_implementation": None}
AUTO = (
    *("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText"),
    *("AutoTokenizer", "AutoImageProcessor", "AutoProcessor", "AutoFeatureExtractor", "AutoVideoProcessor"),
)


def seq2seq(folder: str) -> Any:
    return MODELS.make({"type": "seq2seq", "model_name_or_path": folder}, tokenizer=tiny.make_tokenizer())


READERS: dict[str, Callable[[str], Any]] = {
    "llava": load_llava,
    "flamingo": load_flamingo,
    "otter": load_otter,
    "language_model": lambda folder: load_causal_lm(folder, tiny.make_tokenizer(), **PLAIN),
    "vision_tower": lambda folder: vision_encoder(folder, **PLAIN),
    "seq2seq": seq2seq,
    "hf": lambda folder: tiny_hf.build(folder)[0],
}
"""Kind of a folder -> what reads it in a run."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind."""
    root = tmp_path_factory.mktemp("sound")
    llava = tiny.make()
    llava.save_pretrained(root / "llava")
    llava.language_model.save_pretrained(root / "language_model")
    llava.vision_tower.encoder.save_pretrained(root / "vision_tower")
    flamingo = tiny_flamingo.make()
    flamingo.save_pretrained(root / "flamingo")
    save_otter(tiny_flamingo.make(kind="otter", perceiver={}), tiny_flamingo.tokenizer(), str(root / "otter"))
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
    words = len(tiny.make_tokenizer())
    t5 = AutoModelForSeq2SeqLM.from_config(T5Config(vocab_size=words, decoder_start_token_id=0, **sizes))
    t5.save_pretrained(root / "seq2seq")
    tiny_hf.save_tiny("qwen2_vl", root / "hf")
    for kind in ("llava", "language_model", "seq2seq"):
        tiny.make_tokenizer().save_pretrained(root / kind)
    return root


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(sound: Path, kind: str, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(sound / kind, tmp_path / kind))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that planted code writes; nobody is asked whether it may."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))

    def asked(*_: Any) -> str:
        raise AssertionError("somebody is asked on stdin")

    monkeypatch.setattr(builtins, "input", asked)
    return tmp_path / "code-was-run"


def change(path: Path, **settings: Any) -> None:
    found = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**found, **settings}))


def plant(folder: Path, marker: Path) -> None:
    """Code in every place from which transformers runs some when it is trusted."""
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil:\n    pass\ngenerate = Evil\n"
    (folder / "evil.py").write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    classes = dict.fromkeys(AUTO, "evil.Evil")
    change(folder / "config.json", auto_map=classes)
    for name in ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            change(folder / name, auto_map={**classes, "AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    change(folder / "generation_config.json", custom_generate="custom_generate")


def test_a_known_model_with_code_beside_it_is_read_without_the_code(kind: str, folder: Path, marker: Path) -> None:
    plant(folder, marker)
    assert READERS[kind](str(folder)) is not None
    if (folder / "tokenizer_config.json").is_file():
        load_tokenizer(folder)
    if kind == "hf":
        read_image_processor(folder)
    read_generation_config(folder)
    assert not marker.exists()


def test_an_unknown_model_with_code_beside_it_is_refused(kind: str, folder: Path, marker: Path) -> None:
    plant(folder, marker)
    change(folder / "config.json", model_type="evil")
    with pytest.raises(MllmError) as caught:
        READERS[kind](str(folder))
    assert "'evil'" in str(caught.value)
    with pytest.raises(ModelError) as caught:
        read_config(folder)
    expected = "config.json: model_type: expected one that transformers knows, found 'evil'"
    assert f"{folder}/{expected}; its own code (auto_map) is never run" == str(caught.value)
    assert not marker.exists()


def test_a_tokenizer_of_an_unknown_class_is_never_code(sound: Path, tmp_path: Path, marker: Path) -> None:
    folder = Path(shutil.copytree(sound / "language_model", tmp_path / "copy"))
    plant(folder, marker)
    change(folder / "tokenizer_config.json", tokenizer_class="EvilTokenizer")
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    expected = "tokenizer_class: expected one that transformers knows, found str 'EvilTokenizer'"
    assert f"{folder}/tokenizer_config.json: {expected}; its own code (auto_map) is never run" == str(caught.value)
    assert not marker.exists()


def test_an_image_processor_of_an_unknown_class_is_never_code(sound: Path, tmp_path: Path, marker: Path) -> None:
    folder = Path(shutil.copytree(sound / "hf", tmp_path / "copy"))
    plant(folder, marker)
    change(folder / "preprocessor_config.json", image_processor_type="EvilImageProcessor")
    with pytest.raises(ModelError, match="its image processor") as caught:
        READERS["hf"](str(folder))
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="with torchvision it is read")
def test_an_image_processor_for_torchvision_alone_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "Llama4ImageProcessor"}')
    with pytest.raises(ModelError, match=r"its image processor needs torchvision; install it$"):
        read_image_processor(tmp_path)


def test_every_auto_class_is_told_not_to_trust() -> None:
    """A call that is added later cannot forget it."""
    forgotten: list[str] = []
    root = Path(mllm.__file__).parent
    calls = 0
    for path in (*root.rglob("*.py"), *(root.parent / "tools").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in ("from_pretrained", "from_config"):
                continue
            owner = ast.unparse(node.func.value)
            if not owner.startswith("Auto") and owner not in ("model_class", "auto_class"):
                continue  # a class of transformers or our own, which is no other whatever the folder says
            calls += 1
            said = {(keyword.arg, ast.unparse(keyword.value)) for keyword in node.keywords}
            if not said & {("trust_remote_code", "False"), (None, "LOCAL")}:
                forgotten.append(f"{path}:{node.lineno}")
    assert calls >= 5
    assert not forgotten


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"vocab_size": 10**12}, "numbers, as the folder holds"),
        ({"intermediate_size": 10**9, "hidden_size": 10**6}, "config.json"),
        ({"num_attention_heads": 0}, "config.json: cannot be read: ZeroDivisionError"),
        ({"num_attention_heads": 7}, "no model can be built of it|does not hold|config.json"),
        ({"hidden_size": "evil"}, "config.json"),
    ],
)
def test_a_config_of_another_size_than_its_weights_is_one_line(
    sound: Path, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    folder = Path(shutil.copytree(sound / "language_model", tmp_path / "copy"))
    change(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=field) as caught:
        READERS["language_model"](str(folder))
    assert "\n" not in str(caught.value)


def inner(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The part of a folder's config that holds sizes of its language model."""
    return settings.get("text_config", settings)


@pytest.mark.parametrize("value", [10**12, 10**9])
def test_a_vocabulary_far_larger_than_the_weights_is_refused_before_memory_is_taken(
    kind: str, folder: Path, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    name = "hidden_size" if kind == "vision_tower" else "vocab_size"
    inner(kind, settings)[name] = value
    path.write_text(json.dumps(settings))
    largest = 0
    empty = torch.empty

    def watched(*size: Any, **arguments: Any) -> torch.Tensor:
        nonlocal largest
        made = empty(*size, **arguments)
        largest = max(largest, 0 if made.is_meta else made.numel())
        return made

    monkeypatch.setattr(torch, "empty", watched)
    with pytest.raises(
        ModelError, match=r"config\.json: (expected a model of at most|no model can be built)"
    ) as caught:
        READERS[kind](str(folder))
    assert "\n" not in str(caught.value)
    assert largest < 10**7


def test_an_index_that_leaves_its_folder_is_refused_by_every_reader(kind: str, folder: Path) -> None:
    weights = folder / "model.safetensors"
    outside = folder.parent / "outside.safetensors"
    weights.rename(outside)
    placed = dict.fromkeys(load_file(outside), "../outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    with pytest.raises(ModelError, match=r"the name of a file beside it, found str '\.\./outside\.safetensors'"):
        READERS[kind](str(folder))


def test_a_file_of_weights_may_be_a_link_as_in_the_cache_of_hugging_face(kind: str, folder: Path) -> None:
    blob = folder.parent / "blob"
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(Path("..", "blob"))
    assert READERS[kind](str(folder)) is not None


def test_adapters_beside_a_whole_model_are_not_put_in_unasked(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound / "language_model", tmp_path / "copy"))
    change(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="/etc", r=4)
    with pytest.raises(ModelError, match=r"holds adapter_config\.json beside a whole model"):
        READERS["language_model"](str(folder))


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


CALLED = "posix.mkdir"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", ["checkpoint.pt", "pytorch_model.bin", "adapter_model.bin"])
def test_a_pickle_with_code_is_refused(tmp_path: Path, marker: Path, name: str, old: bool) -> None:
    path = tmp_path / name
    if old:
        path.write_bytes(pickle.dumps({"weight": Evil(marker)}, protocol=2))
    else:
        torch.save({"weight": Evil(marker)}, path)
    with pytest.raises(ModelError) as caught:
        open_file(path)
    assert str(caught.value) == f"{path}: holds more than weights: it names {CALLED}, and code is never run"
    assert not marker.exists()


def test_weights_that_are_a_pickle_with_code_are_refused(kind: str, folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Evil(marker)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=f"it names {CALLED}, and code is never run"):
        READERS[kind](str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_adapters_of_another_rank_than_their_matrices_are_refused_before_memory_is_taken(
    tmp_path: Path, name: str
) -> None:
    settings = {"peft_type": "LORA", "target_modules": ["q_proj"], "r": 4000, "lora_alpha": 16}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    matrices = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 16)}
    save_file(matrices, tmp_path / name) if name.endswith("s") else torch.save(matrices, tmp_path / name)
    adapters = read_adapters({"type": "lora", "from_pretrained": str(tmp_path)})
    model = tiny.make()
    with pytest.raises(ModelError, match=f"{name}: expected matrices of rank 4000, as its settings say, found 4"):
        inject_adapters(model, adapters, {})
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_a_saved_folder_of_adapters_whose_rank_was_changed_is_refused(tmp_path: Path, sound: Path) -> None:
    model = load_llava(str(sound / "llava"))
    base = {"type": "llava", "model_name_or_path": str(sound / "llava")}
    inject_adapters(model, read_adapters({"type": "lora", "targets": ["language_model"], "r": 2}), base)
    save_adapted(model, str(tmp_path))
    assert base_of(str(tmp_path)) is not None
    path = tmp_path / SETTINGS
    path.write_text(path.read_text().replace('"r": 2', '"r": 4000'))
    with pytest.raises(ModelError, match="expected matrices of rank 4000, as its settings say, found 2"):
        base_of(str(tmp_path))
