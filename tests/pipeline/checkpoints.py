"""Checkpoints as a run leaves them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from mllm.pipeline.manifest import write_manifest


def make(folder: Path, *, ranks: int = 1, whole: bool = True) -> Path:
    """A checkpoint as DDP leaves it."""
    folder.mkdir()
    save_file({"a": torch.ones(3)}, folder / "model.safetensors")
    torch.save({"state": torch.ones(5)}, folder / "optimizer.pt")
    torch.save({"last_epoch": 2}, folder / "scheduler.pt")
    for rank in range(ranks):
        torch.save({}, folder / ("rng_state.pth" if ranks == 1 else f"rng_state_{rank}.pth"))
    (folder / "trainer_state.json").write_text('{"global_step": 2}')
    if whole:
        write_manifest(folder, ranks=ranks)
    return folder
