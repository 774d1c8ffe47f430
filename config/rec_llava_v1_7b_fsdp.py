# Shikra-style referring expression comprehension with LLaVA v1 7B: RefCOCO, RefCOCO+ and RefCOCOg together.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 4 \
#               --main_process_port 23786 mllm/pipeline/finetune.py config/rec_llava_v1_7b_fsdp.py \
#               --cfg-options model_args.model_name_or_path=/path/to/llava-v1-7b
# hardware  4 GPUs of 80 GB
# score     not measured by us; Shikra 7B, trained on far more data, publishes acc@0.5 of 87.0 / 90.6 / 80.2 on
#           RefCOCO val / testA / testB (Chen et al. 2023, arXiv 2306.15195)
_base_ = ["_base_/model/llava_v1_7b.py", "_base_/train/llava_fsdp.py", "catalogue/refcoco.py"]

training_args = dict(
    output_dir="outputs/rec_llava_v1_7b",
    per_device_train_batch_size=4,  # photos per GPU, with up to eight expressions each: 4 GPUs take about 100 a step
)
data_args = dict(
    train=dict(type="SamePicture", dataset=_base_.REC_REF3_TRAIN),
    validation=_base_.REC_REFCOCO_UNC_VAL,
    compute_metric="REC",
    max_length=1024,  # tokens of an expression, with its photo
    collator_kwargs=dict(packing="shared"),  # the expressions of a photo share its tokens
    gen_kwargs=dict(max_new_tokens=64),
)
