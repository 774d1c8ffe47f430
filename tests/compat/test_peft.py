from __future__ import annotations

import subprocess
import sys

import pytest
from peft import LoraConfig
from torch import nn

from mllm.compat import peft


def test_inject_adapts_layers_and_leaves_no_flag_behind() -> None:
    model = nn.Sequential()
    model.add_module("part", nn.Sequential(nn.Linear(4, 4)))
    model.part.is_loaded_in_4bit = False
    peft.inject(LoraConfig(r=1, target_modules=["part.0"]), model)
    assert isinstance(model.part[0], peft.AdaptedLayer)
    assert "is_loaded_in_4bit" not in vars(model)
    assert isinstance(model.part[0].get_base_layer(), nn.Linear)


NOTED = """
import logging, sys
from mllm.compat.notes import LOGGED

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "bitsandbytes":
            logging.getLogger("bitsandbytes.backends.cpu.ops").warning(LOGGED["bitsandbytes.backends.cpu.ops"])
            print("looked for")

sys.meta_path.insert(0, Finder())
import mllm.compat.peft
"""
"""What bitsandbytes notes as it is imported on CPUs with bfloat16, on any CPU."""


@pytest.mark.slow
def test_importing_peft_says_nothing_of_kernels_of_bitsandbytes() -> None:
    done = subprocess.run([sys.executable, "-c", NOTED], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("looked for")
    assert "Failed to load CPU gemm_4bit_forward" not in done.stderr
