"""A config file, options and flags -> the config of a run and its training arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mllm.config.arguments import DEFAULTS
from mllm.config.command_line import parse
from mllm.config.config import dump, read
from mllm.config.config import load as load_given
from mllm.config.data_args import DataArgs
from mllm.config.honoured import HONOURED, OWN_FIELDS, REFUSED
from mllm.config.run_arguments import RunArguments
from mllm.config.sections import DATA_ARGS
from mllm.errors import ConfigError

Write = Callable[..., str]


def load(words: list[str]) -> tuple[Any, RunArguments]:
    return load_given(parse(words))


TINY = "training_args = dict(use_cpu=True, learning_rate=1e-5, max_steps=3)\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "run.py") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_flag_over_option_over_file_over_ours_over_theirs(write: Write) -> None:
    path = write(TINY)
    assert load([path])[1].learning_rate == 1e-5
    option = ["--cfg-options", "training_args.learning_rate=2e-5", "training_args.seed=7"]
    cfg, args = load([path, *option])
    assert (args.learning_rate, args.seed) == (2e-5, 7)
    cfg, args = load([path, *option, "--learning_rate", "4e-5"])
    assert (args.learning_rate, args.seed, args.max_steps) == (4e-5, 7, 3)
    assert cfg.training_args.learning_rate == 4e-5
    assert args.remove_unused_columns is DEFAULTS["remove_unused_columns"] is False
    assert args.adam_beta2 == 0.999


def test_a_flag_that_says_the_default_is_still_explicit(write: Write) -> None:
    cfg, args = load([write(TINY), "--learning_rate", "5e-5"])  # transformers' own default
    assert args.learning_rate == cfg.training_args.learning_rate == 5e-5


def test_only_what_was_given_is_in_the_config(write: Write) -> None:
    cfg, _ = load([write(TINY), "--num_train_epochs", "1", "--do_train"])
    given = {"use_cpu": True, "learning_rate": 1e-5, "max_steps": 3, "num_train_epochs": 1.0, "do_train": True}
    assert cfg.training_args == {**DEFAULTS, "output_dir": "outputs/run", **given}
    assert cfg.model_args == cfg.data_args == {}


def test_flags_may_come_before_the_options(write: Write) -> None:
    cfg, args = load([write(TINY), "--bf16", "--cfg-options", "model_args.a=1", "--no_dataloader_pin_memory"])
    assert args.bf16
    assert not args.dataloader_pin_memory
    assert cfg.model_args == {"a": 1}


def test_bases_constants_and_sections(write: Write, tmp_path: Path) -> None:
    write("REC = dict(val=dict(type='REC', filename='val.jsonl', questions='q.json'))\nSIZE = 336\n", "catalogue.py")
    write("training_args = dict(use_cpu=True, seed=1, max_steps=5)\n", "train.py")
    path = write(
        '_base_ = ["catalogue.py", "train.py"]\n'
        "training_args = dict(seed=2)\n"
        "model_args = dict(type='llava', size=_base_.SIZE)\n"
        "LOCAL = _base_.REC['val']\n"
        "data_args = dict(validation=_base_.REC['val'], test=dict(LOCAL, image_folder='x'))\n"
    )
    cfg = read(path)
    assert set(cfg) == {"training_args", "model_args", "data_args"}
    assert (cfg.training_args.seed, cfg.training_args.max_steps) == (2, 5)
    assert cfg.model_args == {"type": "llava", "size": 336}
    assert cfg.data_args.validation == {"type": "REC", "filename": "val.jsonl", "questions": "q.json"}
    assert cfg.data_args.test == {**cfg.data_args.validation, "image_folder": "x"}


def test_one_catalogue_entry_used_twice_is_changed_once(write: Write) -> None:
    path = write("ENTRY = dict(type='Scenes', count=1)\ndata_args = dict(train=ENTRY, test=ENTRY)\n")
    cfg = read(path, options=["data_args.train.count=2"])
    assert (cfg.data_args.train.count, cfg.data_args.test.count) == (2, 1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lerning_rate", "1"], "unknown flag --lerning_rate; did you mean '--learning_rate'"),
        (["--learning-rat=1"], "unknown flag --learning-rat; did you mean '--learning_rate'"),
        (["--warmup_ratio", "0.03"], "in transformers 5 it is warmup_steps, where a value below 1 is a share"),
        (["--max_steps", "many"], "--max_steps: expected a whole number, found str 'many'"),
        (["--max_steps"], "--max_steps: expected a value"),
        (["--output_dir", "--do_train"], "--output_dir: expected a value"),
        (["--bf16=maybe"], "--bf16: expected true or false, found str 'maybe'"),
        (["--lr_scheduler_type", "cosin"], "lr_scheduler_type: expected one of .*did you mean 'cosine'"),
        (["other.py"], r"unexpected extra argument\(s\) \(other\.py\)"),
        (["--cfg-options", "training_args.lerning_rate=1"], "lerning_rate: unknown argument; did you mean 'learning_"),
        (
            ["--cfg-options", "training_args.max_steps=ten"],
            "training_args.max_steps: expected a whole number of at least -1, found str 'ten'",
        ),
        (
            ["--cfg-options", "training_args.optim=adam"],
            "training_args.optim: expected one of 'adamw_torch', .*, found str 'adam'",
        ),
        (["--cfg-options", "training_args.use_cpu=1"], "training_args.use_cpu: expected True or False, found int '1'"),
        (
            ["--cfg-options", "model_arg.type=x"],
            r"^--cfg-options: model_arg: unknown name .*; did you mean 'model_args'\?",
        ),
        (["--cfg-options", "data_args.trian.type=x"], "data_args.trian: unknown name; did you mean 'train'?"),
        (["--cfg-options", "model_args=1"], "model_args: expected a dict, found int '1'"),
        (["--cfg-options", "seed"], r"--cfg-options: expected KEY=VALUE \.\.\., found 'seed'"),
        (["--log_level", "loud"], "training_args.log_level: expected one of 'detail', 'debug', .*, found str 'loud'"),
        (["--fp16", "--bf16"], "At most one of fp16 and bf16"),
    ],
)
def test_mistakes_are_named(write: Write, argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([write(TINY), *argv])


@pytest.mark.parametrize(
    ("option", "blamed"),
    [
        ("size.x=1", "--cfg-options: size: unknown name"),
        ("data_args.train.tpye=Scenes", "--cfg-options: data_args.train: "),
        ("data_args={'trian': 1}", "--cfg-options: data_args.trian: unknown name"),
        (
            "data_args.images.cache={1}",
            "--cfg-options: data_args.images.cache: expected numbers, texts, lists or dicts, found {1} of type set",
        ),
        ("training_args.seed=1", "FILE: data_args.max_length: expected a whole number"),
        (
            "data_args.max_length.x=1",
            "--cfg-options data_args.max_length.x: data_args.max_length: expected a dict",
        ),
    ],
)
def test_an_error_names_the_option_that_it_is_about(option: str, blamed: str, write: Write) -> None:
    path = write("data_args = dict(max_length=-1)\n")
    with pytest.raises(ConfigError) as caught:
        load([path, "--cfg-options", option])
    assert str(caught.value).startswith(blamed.replace("FILE", path))


def test_an_unknown_lowercase_name_in_the_file(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"run\.py: size: unknown name \(constants are UPPERCASE\); "):
        load([write("size = 224\n")])


def test_the_config_file_is_required() -> None:
    with pytest.raises(ConfigError, match=r"Missing argument 'CONFIG\.py'"):
        load(["--do_train"])


def test_help_names_the_kinds_of_arguments_and_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(["--help-all"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for word in (
        "_base_",
        "CONFIG.py",
        "--cfg-options",
        "multitest",
        *(f"--{name} " for name in HONOURED | OWN_FIELDS),
    ):
        assert word in text
    assert "[default: tensorboard]" in text  # ours
    assert "[default: 5e-05]" in text  # transformers'
    assert not any(f"--{name} " in text for name in REFUSED)


def test_custom_imports_register(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    write("SEEN = True\n", "my_components.py")
    read(write("custom_imports = dict(imports=['my_components'])\n"))
    assert sys.modules.pop("my_components").SEEN
    with pytest.raises(ConfigError, match="custom_imports: cannot import 'my_component'"):
        read(write("custom_imports = dict(imports='my_component')\n"))
    with pytest.warns(UserWarning, match="'my_component' was not imported"):
        read(write("custom_imports = dict(imports=['my_component'], allow_failed_imports=True)\n"))
    with pytest.raises(ConfigError, match=r"custom_imports\.modules: unknown name"):
        read(write("custom_imports = dict(modules=['my_components'])\n"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (\n", r"cannot import 'broken': \S*broken\.py:1: SyntaxError: '\(' was never closed"),
        ("\n1 / 0\n", r"cannot import 'broken': \S*broken\.py:2: ZeroDivisionError: division by zero"),
        (
            "import nowhere\n",
            r"cannot import 'broken': \S*broken\.py:1: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("import sys\nsys.exit(3)\n", r"cannot import 'broken': \S*broken\.py:2: SystemExit: 3"),
        ("def f():\n  g()\nf()\n", r"cannot import 'broken': \S*broken\.py:2: NameError: name 'g' is not defined"),
        (None, r"cannot import 'broken': ModuleNotFoundError: No module named 'broken'"),
    ],
)
def test_custom_imports_that_fail_name_file_and_line(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    sys.modules.pop("broken", None)
    if source:
        write(source, "broken.py")
    with pytest.raises(ConfigError, match=message) as caught:
        read(write("custom_imports = dict(imports=['broken'])\n"))
    assert "\n" not in str(caught.value)


AWKWARD = r"""
from pathlib import Path
from typing import Any
data_args = dict(
    train=dict(type="Scenes", count=2, objects=(2, 3), tasks=["rec"]),
    multitest={"a-b": dict(cfg=dict(type="Scenes", count=1), compute_metric="REC"), "é": None},
    gen_kwargs=dict(stop="it's \"quoted\"\n\tand\\broken", jinja="{{ bos_token }}{% for m in messages %}", none=None),
)
model_args = dict(
    type="x",
    parts=[dict(type="REC", ratio=0.5), ("a", 1), (), [], {}, (1,), [[1, 2], (3,)]],
    folder=Path("photos") / "train",
    size={{'$MLLM_TEST_SIZE:4'}},
    rates=[1e-5, -0.0, 1e22, float("-inf")],
    names={"a-b": {}, 3: True, "é": float("inf")},
)
training_args = dict(use_cpu=True, lr_scheduler_kwargs=dict(num_cycles=0.5), report_to=["tensorboard"], max_steps=2)
"""


def test_a_dumped_config_gives_an_equal_config(write: Write, tmp_path: Path) -> None:
    cfg, args = load(
        [write(AWKWARD), "--cfg-options", "model_args.text={{ fileDirname }}{{$HOME:x}}", "--do_eval", "--seed=3"]
    )
    path = dump(cfg, args, tmp_path / "out")
    assert path == tmp_path / "out" / "config.py"
    again, args_again = load([str(path)])
    assert again.to_dict() == cfg.to_dict()
    assert args_again.to_dict() == args.to_dict()
    assert again.model_args.text == "{{ fileDirname }}{{$HOME:x}}"
    assert again.model_args.folder == str(Path("photos") / "train")
    assert type(again.model_args.parts[1]) is tuple
    assert again.training_args.output_dir == "outputs/run"
    assert dump(again, args_again, tmp_path / "out2").read_text() == path.read_text().replace(cfg.filename, str(path))  # type: ignore[union-attr]


def test_a_dump_is_written_by_the_saving_process_alone(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, args = load([write(TINY)])
    assert dump(cfg, args, tmp_path / "out") is not None
    monkeypatch.setattr(type(args), "should_save", False)
    assert dump(cfg, args, tmp_path / "replica") is None
    assert not (tmp_path / "replica").exists()


def test_every_key_of_data_args_is_described_and_typed() -> None:
    assert DATA_ARGS.keys() == {one.name for one in fields(DataArgs)}
