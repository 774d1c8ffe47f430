"""Tensors read one at a time, and written one at a time, are the tensors."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mllm.errors import ModelError
from mllm.models.adapters.low_rank import plain_names
from mllm.models.checkpoints.lazy import (
    DTYPES,
    add_low_rank,
    chain_of,
    grown,
    held,
    open_file,
    open_folder,
    over,
    stack_lazily,
    thirds,
)
from mllm.models.checkpoints.writing import write_shards

SHAPES = st.lists(st.integers(0, 4), max_size=3)
STATES = st.dictionaries(
    st.text("ab.é", min_size=1), st.tuples(SHAPES, st.sampled_from(list(DTYPES.values()))), max_size=6
)


def tensor_of(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.randint(0, 2, shape).to(dtype)


def lazily(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: held(tensor, name) for name, tensor in state.items()}


@given(STATES.filter(bool), st.sampled_from([1, 20, "5GB"]))
def test_what_is_written_is_read(layout, size) -> None:
    state = {name: tensor_of(*of) for name, of in layout.items()}
    with tempfile.TemporaryDirectory() as folder:
        write_shards(lazily(state), Path(folder), max_shard_size=size)
        found = open_folder(Path(folder))
        assert found.keys() == state.keys()
        library = {name: t for path in Path(folder).glob("*.safetensors") for name, t in load_file(path).items()}
        for name, tensor in state.items():
            assert (found[name].shape, found[name].dtype) == (tuple(tensor.shape), tensor.dtype)
            assert found[name].nbytes == tensor.numel() * tensor.itemsize
            for read in (found[name].read(), library[name]):
                assert read.dtype == tensor.dtype
                assert read.shape == tensor.shape
                assert read.double().equal(tensor.double())
        files = [path.name for path in Path(folder).glob("*.safetensors")]
        assert (Path(folder) / "model.safetensors.index.json").is_file() == (files != ["model.safetensors"])


def test_another_dtype_is_of_floating_point_alone(tmp_path: Path) -> None:
    state = {"a": torch.tensor([1.5]), "b": torch.tensor([7]), "c": torch.randn(3, 2).T}
    write_shards(lazily(state), tmp_path, dtype=torch.bfloat16)
    found = load_file(tmp_path / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        "a": torch.bfloat16,
        "b": torch.int64,
        "c": torch.bfloat16,
    }
    assert found["c"].equal(state["c"].bfloat16())


def test_a_tensor_that_reads_as_another_shape_is_refused(tmp_path: Path) -> None:
    wrong = held(torch.zeros(2), "x")
    wrong = type(wrong)((3,), wrong.dtype, "x", wrong.read)
    with pytest.raises(ModelError, match=r"x: expected a tensor of \[3\], found \[2\]"):
        write_shards({"x": wrong}, tmp_path)


@pytest.mark.parametrize("transposed", [False, True])
def test_low_rank_matrices_are_added(transposed: bool) -> None:
    base, a, b = torch.randn(4, 3), torch.randn(2, 3), torch.randn(4, 2)
    expected = base + 0.5 * b @ a
    given_base = base.T if transposed else base
    found = add_low_rank(held(given_base, "w"), held(a, "a"), held(b, "b"), scale=0.5, transposed=transposed).read()
    torch.testing.assert_close(found, expected.T if transposed else expected)


def test_rows() -> None:
    table = torch.tensor([[1.0, 2], [3, 4]])
    assert grown(held(table, "t"), 4).read().tolist() == [[1, 2], [3, 4], [2, 3], [2, 3]]
    assert over(held(table[:1] + 5, "n"), held(table, "t")).read().tolist() == [[6, 7], [3, 4]]
    assert stack_lazily(held(table, "t"), held(table[:1], "s")).shape == (3, 2)
    assert [part.read().tolist() for part in thirds(held(torch.arange(6), "q"))] == [[0, 1], [2, 3], [4, 5]]


def test_names_of_peft() -> None:
    names = {
        "base_model.model.model.layers.0.q.base_layer.weight": "model.layers.0.q.weight",
        "lang_encoder.base_model.model.transformer.q.lora_A.default.weight": "lang_encoder.transformer.q.lora_A.weight",
        "base_model.model.q.lora_B.weight": "q.lora_B.weight",
        "base_model.model.head.modules_to_save.default.weight": "head.weight",
        "model.layers.0.q.weight": "model.layers.0.q.weight",
    }
    for theirs, plain in names.items():
        assert plain_names({theirs: 1}) == {plain: 1}
    assert plain_names({"head.original_module.weight": 1}) == {}


def test_one_name_in_two_shards(tmp_path: Path) -> None:
    for number in (1, 2):
        save_file({"a": torch.zeros(1)}, tmp_path / f"model-{number}.safetensors")
    with pytest.raises(ModelError, match=r"a occurs twice: in a in .*model-1"):
        open_folder(tmp_path)


def test_a_damaged_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelError, match=str(path)):
        open_file(path)


@pytest.mark.parametrize("path", ["a.pt,", ",a.pt", "a.pt,,b.pt", ",", " , a.pt", ["a.pt", ""]])
def test_an_empty_name_in_a_chain_of_files_is_refused(path: Any) -> None:
    with pytest.raises(ModelError, match=r"checkpoint: expected files, as in .*, found nothing in place \d of \d of "):
        chain_of(path)
    assert chain_of(" a.pt, b.pt") == [Path("a.pt"), Path("b.pt")]
