# Flan-T5 small learns to summarise dialogues, all of it trained in 32 bits. Beside it: the same with bf16 arithmetic,
# and with LoRA on an 8-bit base. tools/bench/seq2seq.py compares memory and time of the three.
#
# command   mllm train config/flan_t5_small_fp32.py \
#               --cfg-options model_args.model_name_or_path=/path/to/flan-t5-small
# hardware  one GPU of 8 GB, or a CPU
# score     not measured
_base_ = ["_base_/model/flan_t5_small.py", "_base_/train/seq2seq.py", "catalogue/instruct.py"]

training_args = dict(output_dir="outputs/flan_t5_small_fp32")
data_args = dict(
    train=_base_.TEXT_SAMSUM_TRAIN,
    validation=_base_.TEXT_SAMSUM_VAL,
    max_length=640,  # tokens of dialogue and summary
    gen_kwargs=dict(max_new_tokens=64),
)
