"""How far the way through the code is: our functions, files and modules in a training step, a look-up and a build.

    OMP_NUM_THREADS=1 python tools/bench/walk.py [CONFIG] [--list]

A step is everything of mllm that runs between the end of one step of CONFIG (config/demo_scenes.py) and the end of the
next, in one process: fetching and rendering the items, collating, the loss, its gradients and the optimizer. "From
batch on" is the part of a step that begins with the collator. A look-up finds the model type `llava` in its registry. A
build makes the processor and the model of the config. Modules are those of mllm that are loaded once it is done, by a
process that has done nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
HOME = str(ROOT / "mllm") + "/"
STEP = 3
"""The step that is watched: before it, whatever is done once is done."""
WITHIN = ("<module>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
"""Code that is no function of its own."""
WALKS = ("step", "from batch on", "look-up", "build")


class Walk:
    """Counts the calls of functions of mllm while it is on; `since`: from the first call of this function on."""

    def __init__(self, since: CodeType | None = None) -> None:
        self.calls: Counter[CodeType] = Counter()
        self.since = since

    def start(self) -> None:
        sys.setprofile(self._note)

    def stop(self) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and self.since in (None, frame.f_code) and frame.f_code.co_filename.startswith(HOME):
            self.since = None
            self.calls[frame.f_code] += 1

    def print(self, name: str, *, listed: bool) -> None:
        functions = [code for code in self.calls if code.co_name not in WITHIN]
        files = {code.co_filename for code in self.calls}
        modules = sum(name == "mllm" or name.startswith("mllm.") for name in sys.modules)
        print(f"{name:16}{len(functions):>12,}{len(files):>8,}{modules:>10,}{self.calls.total():>10,}", flush=True)
        for code, count in sorted(self.calls.items(), key=lambda entry: (entry[0].co_filename, -entry[1])):
            if listed:
                print(f"  {count:>8,}  {code.co_filename.removeprefix(HOME)}:{code.co_firstlineno} {code.co_name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(ROOT / "config" / "demo_scenes.py"), metavar="CONFIG")
    parser.add_argument("--list", action="store_true", help="name the functions, with their calls")
    parser.add_argument("--walk", choices=WALKS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.walk:
        walk = dict(zip(WALKS, (step, from_batch_on, look_up, build), strict=True))[given.walk](given.config)
        walk.print(given.walk, listed=given.list)
        return
    print(f"{'':16}{'functions':>12}{'files':>8}{'modules':>10}{'calls':>10}", flush=True)
    for name in WALKS:
        more = ["--list"] if given.list else []
        done = subprocess.run(
            [sys.executable, __file__, given.config, "--walk", name, *more], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        print(done.stdout[done.stdout.index(f"{name:16}") :], end="", flush=True)


def from_batch_on(config: str) -> Walk:
    from mllm.pipeline.monitor import CountingCollator

    return step(config, CountingCollator.__call__.__code__)


def step(config: str, since: CodeType | None = None) -> Walk:
    from transformers.trainer_callback import CallbackHandler

    walk = Walk(since)
    callbacks: Any = CallbackHandler
    ended: Callable[..., Any] = callbacks.on_step_end

    def on_step_end(handler: Any, args: Any, state: Any, control: Any) -> Any:
        walk.stop()
        control = ended(handler, args, state, control)
        if state.global_step == STEP - 1:
            walk.start()
        return control

    callbacks.on_step_end = on_step_end
    with tempfile.TemporaryDirectory() as folder:
        run(config, folder, ["--max_steps", str(STEP)])
    return walk


def look_up(config: str) -> Walk:
    from mllm.registry import MODELS

    walk = Walk()
    walk.start()
    MODELS.find("llava")
    walk.stop()
    return walk


def build(config: str) -> Walk:
    from mllm.config.config import read
    from mllm.pipeline.build import build_model
    from mllm.registry import DATASETS

    cfg = read(config).to_dict()
    train = DATASETS.make(cfg["data_args"]["train"])
    walk = Walk()
    walk.start()
    build_model(cfg["model_args"], cfg["data_args"], train)
    walk.stop()
    return walk


def run(config: str, folder: str, more: Sequence[str]) -> None:
    from mllm.pipeline.finetune import main

    quiet = ["--report_to", "none", "--disable_tqdm", "True", "--save_strategy", "no", "--do_eval", "False"]
    status = main([config, "--output_dir", folder, "--do_train", "True", "--do_predict", "False", *quiet, *more])
    if status:
        sys.exit(f"the run ended with {status}")


if __name__ == "__main__":
    main()
