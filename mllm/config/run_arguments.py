"""The training arguments of a run: transformers' own and ours."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers.training_args_seq2seq import Seq2SeqTrainingArguments


@dataclass
class RunArguments(Seq2SeqTrainingArguments):
    """`Seq2SeqTrainingArguments` with what a run of this toolkit takes beside them; each is a flag and a config key."""

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Not supported: would log a loss that is not finite as 0."}
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Train anew into an output_dir that holds an earlier run, which is deleted."},
    )
    max_nonfinite_steps: int = field(
        default=0,
        metadata={
            "help": "Steps in a row whose loss or gradient may be nan or infinite: their updates are left out. "
            "One more stops the run."
        },
    )
    mirror_dir: str | None = field(
        default=None,
        metadata={
            "help": "URL that checkpoints and the model are copied to, such as s3://BUCKET/RUN; "
            "--resume_from_checkpoint auto fetches the newest one from there if output_dir lacks it."
        },
    )
    num_samples: int | None = field(
        default=None,
        metadata={"help": "Predict at most this many items of each test set, drawn by the seed."},
    )

    resume: bool = field(
        default=False,
        metadata={"help": "Go on with the answers that an evaluation left in output_dir when it was stopped."},
    )

    def __post_init__(self) -> None:
        if self.output_dir == "":
            raise ValueError("output_dir: expected a folder, found ''")
        if self.resume_from_checkpoint == "":
            raise ValueError("resume_from_checkpoint: expected 'auto' or a folder, found ''")
        if self.mirror_dir is not None and not self.mirror_dir.partition("://")[2].strip("/"):
            raise ValueError(f"mirror_dir: expected a URL such as s3://BUCKET/RUN, found {self.mirror_dir!r}")
        super().__post_init__()
