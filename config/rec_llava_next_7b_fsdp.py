# Referring expression comprehension with LLaVA-NeXT 7B, which sees an image in tiles: RefCOCO, RefCOCO+ and RefCOCOg.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_llava_next_7b_fsdp.py \
#               --cfg-options model_args.model_name_or_path=/path/to/llava-v1.6-vicuna-7b-hf
# hardware  4 GPUs of 80 GB
# score     not measured by us
_base_ = ["_base_/model/llava_next_7b.py", "_base_/train/llava_fsdp.py", "catalogue/refcoco.py"]

training_args = dict(
    output_dir="outputs/rec_llava_next_7b",
    per_device_train_batch_size=2,  # photos per GPU, with up to eight expressions each: 4 GPUs take about 100 a step
    gradient_accumulation_steps=2,
)
data_args = dict(
    train=dict(type="SamePicture", dataset=_base_.REC_REF3_TRAIN),
    validation=_base_.REC_REFCOCO_UNC_VAL,
    compute_metric="REC",
    max_length=4096,  # tokens of an expression, with its photo
    collator_kwargs=dict(packing="shared"),  # the expressions of a photo share its tokens
    gen_kwargs=dict(max_new_tokens=64),
)
