# LLaVA v1 7B, second stage: projector and Vicuna learn from 158K instructions about COCO.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/llava_v1_7b_finetune.py
# hardware  8 GPUs of 80 GB; not measured by us
# score     not measured by us; LLaVA 7B publishes 23.8 on MM-Vet (Yu et al. 2023, arXiv 2308.02490)
# source    3 epochs, learning rate 2e-5, 32 conversations a step (Liu et al. 2023, arXiv 2304.08485)
_base_ = ["_base_/model/llava_v1_7b.py", "_base_/train/llava_fsdp.py", "catalogue/instruct.py"]

model_args = dict(
    model_name_or_path="outputs/llava_v1_7b_pretrain",
    placement="crop",
)
training_args = dict(
    output_dir="outputs/llava_v1_7b_finetune",
    num_train_epochs=3,
    per_device_train_batch_size=4,  # conversations per GPU, 32 a step
)
data_args = dict(train=_base_.INSTRUCT_LLAVA_150K, max_length=2048)
