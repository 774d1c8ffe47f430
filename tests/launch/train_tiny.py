"""A tiny Llama trained by transformers' own Trainer: what any trainer must survive when it is sharded.

Writes `result.json` (losses, answers, whether the weights lay in parts) and the whole model into the output folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import HfArgumentParser, LlamaConfig, LlamaForCausalLM, Seq2SeqTrainer, Seq2SeqTrainingArguments


def rows() -> list[dict[str, torch.Tensor]]:
    """Sixteen texts of five to eleven tokens."""
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 12, (16,), generator=random).tolist()
    texts = [torch.randint(3, 64, (length,), generator=random) for length in lengths]
    return [{"input_ids": text, "labels": text, "attention_mask": torch.ones_like(text)} for text in texts]


def collate(batch: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {
        name: torch.nn.utils.rnn.pad_sequence([row[name] for row in batch], batch_first=True, padding_value=value)
        for name, value in fill.items()
    }


def shard_for_evaluation(trainer: Seq2SeqTrainer) -> None:
    """Shard a model that is not trained: accelerate does so only together with an optimizer."""
    stand_in = torch.optim.SGD(trainer.model.parameters(), lr=0.0)
    trainer.model, _ = trainer.accelerator.prepare(trainer.model, stand_in)
    trainer.model_wrapped = trainer.model
    register_fsdp_forward_method(trainer.model, "generate")  # train() does this by itself


def save_whole(trainer: Seq2SeqTrainer, folder: Path) -> None:
    """save_model() writes nothing where each rank saves its own part."""
    if trainer.is_fsdp_enabled:
        trainer._save(str(folder), state_dict=trainer.accelerator.get_state_dict(trainer.model))
    else:
        trainer.save_model(str(folder))


def answers(trainer: Seq2SeqTrainer) -> dict[int, list[int]]:
    """Each rank continues its own texts, some of them longer than others."""
    found: dict[int, list[int]] = {}
    trainer.model.eval()
    for number in range(trainer.args.process_index, 4, trainer.args.world_size):
        prompt = rows()[number]["input_ids"][None]
        length = 3 if number % 2 == 0 else 8
        found[number] = trainer.model.generate(prompt, do_sample=False, max_new_tokens=length)[0].tolist()
    return found


def main() -> None:
    (args,) = HfArgumentParser(Seq2SeqTrainingArguments).parse_args_into_dataclasses()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=0,
            eos_token_id=None,
        )
    )
    trainer = Seq2SeqTrainer(
        model=model, args=args, train_dataset=rows(), eval_dataset=rows()[:8], data_collator=collate
    )
    result: dict[str, Any] = {"type": trainer.accelerator.distributed_type.value}
    if args.do_train:
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    elif trainer.is_fsdp_enabled:
        shard_for_evaluation(trainer)
    parameters = list(trainer.model.parameters())
    whole = sum(parameter.numel() for parameter in parameters)
    result["part"] = sum(p.to_local().numel() for p in parameters if isinstance(p, DTensor)) / whole
    result["losses"] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    result["eval_loss"] = trainer.evaluate()["eval_loss"]
    result["answers"] = answers(trainer)
    folder = Path(args.output_dir or ".")
    save_whole(trainer, folder)
    (folder / f"result{args.process_index}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
