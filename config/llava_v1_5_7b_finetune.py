# LLaVA v1.5 7B, second stage: MLP and Vicuna learn from the mixture of 665K conversations, some of them without an
# image; images are padded to squares in the mean colour.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/llava_v1_5_7b_finetune.py
# hardware  8 GPUs of 80 GB; 10 hours on A100s as LLaVA's README has it, not measured by us
# score     not measured by us; LLaVA v1.5 7B publishes VQAv2 78.5, GQA 62.0, POPE 85.9 (arXiv 2310.03744)
# source    1 epoch, learning rate 2e-5, 128 conversations a step (the same). LLaVA also puts rows of like length and
#           kind into one batch, which is not done here.
_base_ = ["_base_/train/llava_fsdp.py", "catalogue/instruct.py"]

model_args = dict(
    type="llava",
    model_name_or_path="outputs/llava_v1_5_7b_pretrain",
    freeze=["vision_tower"],
    template="vicuna_v1",
    placement="pad",
)
training_args = dict(
    output_dir="outputs/llava_v1_5_7b_finetune",
    per_device_train_batch_size=16,  # conversations per GPU, 128 a step
)
data_args = dict(train=_base_.INSTRUCT_LLAVA_MIX_665K, max_length=2048)
