# flan_t5_small_fp32.py with LoRA on the queries and values of an 8-bit base, in bf16.
#
# command   mllm train config/flan_t5_small_int8_lora.py \
#               --cfg-options model_args.model_name_or_path=/path/to/flan-t5-small
# hardware  one GPU of 8 GB, or a CPU; pip install bitsandbytes
# score     not measured
_base_ = ["_base_/model/flan_t5_small.py", "_base_/train/seq2seq.py", "catalogue/instruct.py"]

model_args = dict(
    quantization=dict(type="bitsandbytes", bits=8),
    adapters=dict(type="lora", targets=[r"\.(q|v)$"], r=16, alpha=32, dropout=0.05),
)
training_args = dict(output_dir="outputs/flan_t5_small_int8_lora", bf16=True, learning_rate=1e-3)
data_args = dict(
    train=_base_.TEXT_SAMSUM_TRAIN,
    validation=_base_.TEXT_SAMSUM_VAL,
    max_length=640,  # tokens of dialogue and summary
    gen_kwargs=dict(max_new_tokens=64),
)
