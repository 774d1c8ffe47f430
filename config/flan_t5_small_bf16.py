# flan_t5_small_fp32.py with bf16 arithmetic; weights and optimizer stay in 32 bits. Not fp16: T5 overflows in it.
#
# command   mllm train config/flan_t5_small_bf16.py \
#               --cfg-options model_args.model_name_or_path=/path/to/flan-t5-small
# hardware  one GPU of 8 GB, or a CPU
# score     not measured
_base_ = ["_base_/model/flan_t5_small.py", "_base_/train/seq2seq.py", "catalogue/instruct.py"]

training_args = dict(output_dir="outputs/flan_t5_small_bf16", bf16=True)
data_args = dict(
    train=_base_.TEXT_SAMSUM_TRAIN,
    validation=_base_.TEXT_SAMSUM_VAL,
    max_length=640,  # tokens of dialogue and summary
    gen_kwargs=dict(max_new_tokens=64),
)
