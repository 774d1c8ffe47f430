"""Models without storage have the shapes, and with quantisation the bytes, of those that are loaded."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from mllm.errors import ConfigError
from mllm.models.meta_device import QuantizedLinearStub
from mllm.registry import MODELS
from tests.models.tiny import TEXT, make, make_tokenizer

T5 = {"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
FEW_BITS = ("Params4bit", "Int8Params", "Int8Tensor")
QUANTIZATIONS = [
    {"type": "bitsandbytes", "bits": 8},
    {"type": "bitsandbytes", "bits": 4},
    {"type": "bitsandbytes", "bits": 4, "double_quant": False},
    {"type": "hqq", "bits": 4, "group_size": 16},
    {"type": "hqq", "bits": 8, "group_size": 64},
    {"type": "torchao", "scheme": "Int8WeightOnlyConfig"},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    TEXT["wide"] = {**TEXT["llama"], "hidden_size": 64, "intermediate_size": 144}
    make(text="wide").save_pretrained(folder / "llava")
    del TEXT["wide"]
    model = MODELS.make({"type": "seq2seq", "language_model": T5}, tokenizer=make_tokenizer())
    model.save_pretrained(folder / "seq2seq")
    return folder


def build(folders, kind, device, **arguments):
    folder = str(folders / kind)
    with torch.device(device):
        return MODELS.make({"type": kind, "model_name_or_path": folder, **arguments}, tokenizer=make_tokenizer())


def tensors(layer):
    """All that a quantised layer stores."""
    if type(layer).__name__ == "HQQLinear":
        return [layer.W_q, layer.meta["scale"], layer.meta["zero"]]
    weight = layer.weight
    if state := getattr(weight, "quant_state", None):
        outer = [weight.data, state.absmax, state.code]
        return [*outer, state.state2.absmax, state.state2.code, state.offset] if state.nested else outer
    if getattr(weight, "SCB", None) is not None:
        return [weight.data, weight.SCB]
    return [weight.qdata, weight.scale, weight.zero_point]


@pytest.mark.parametrize("kind", ["llava", "seq2seq"])
def test_shapes_and_dtypes_are_those_of_the_folder(folders, kind: str) -> None:
    for dtype in ("float32", "bfloat16", "auto"):
        model, loaded = (build(folders, kind, device, dtype=dtype) for device in ("meta", "cpu"))
        assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
        described = [
            {name: (p.shape, p.dtype, p.requires_grad) for name, p in each.named_parameters()}
            for each in (model, loaded)
        ]
        assert described[0] == described[1]


@pytest.mark.parametrize("kind", ["llava", "seq2seq"])
def test_only_the_config_is_read(folders, kind: str, tmp_path: Path) -> None:
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "config.json").write_bytes((folders / kind / "config.json").read_bytes())
    bare, whole = (build(folder, kind, "meta") for folder in (tmp_path, folders))
    assert [p.shape for p in bare.parameters()] == [p.shape for p in whole.parameters()]


def test_the_vocabulary_grows_without_storage(folders) -> None:
    with torch.device("meta"):
        arguments = {"type": "llava", "model_name_or_path": str(folders / "llava")}
        model = MODELS.make(arguments, tokenizer=make_tokenizer(extra=7))
    assert model.get_input_embeddings().weight.shape == (len(make_tokenizer(extra=7)), 64)


@pytest.mark.parametrize("kind", ["llava", "seq2seq"])
@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=lambda value: "-".join(map(str, value.values())))
def test_bytes_of_quantised_layers_are_those_of_the_packages(folders, kind: str, quantization) -> None:
    if not find_spec(quantization["type"]):
        pytest.skip(f"{quantization['type']} is not installed")
    model, loaded = (build(folders, kind, device, quantization=quantization) for device in ("meta", "cpu"))
    found = {name: layer.stored for name, layer in model.named_modules() if isinstance(layer, QuantizedLinearStub)}
    layers = {name: layer for name, layer in loaded.named_modules() if is_few_bits(layer)}
    assert found == {name: sum(tensor.nbytes for tensor in tensors(layer)) for name, layer in layers.items()}
    assert len(found) == {"llava": 14, "seq2seq": 32 if quantization["type"] != "bitsandbytes" else 28}[kind]


def is_few_bits(layer):
    return type(layer).__name__ == "HQQLinear" or type(getattr(layer, "weight", None)).__name__ in FEW_BITS


def test_a_scheme_whose_bytes_are_not_known(folders) -> None:
    pytest.importorskip("torchao")
    with pytest.raises(ConfigError, match="expected one whose memory can be estimated"):
        build(folders, "llava", "meta", quantization={"type": "torchao", "scheme": "Float8WeightOnlyConfig"})
