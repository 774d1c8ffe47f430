# LLaVA v1 7B, first stage: the linear projector alone learns from 595K captions of CC3M; Vicuna and CLIP are frozen.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/llava_v1_7b_pretrain.py
# hardware  8 GPUs of 80 GB; not measured by us
# source    1 epoch, learning rate 2e-3, 128 images a step (Liu et al. 2023, arXiv 2304.08485)
_base_ = ["_base_/train/llava_fsdp.py", "catalogue/instruct.py"]

model_args = dict(
    type="llava",
    vision_tower="checkpoints/clip-vit-large-patch14",
    language_model="checkpoints/vicuna-7b-v1.3",
    connector="linear",
    feature_layer=-2,
    freeze=["vision_tower", "language_model"],
    template="plain",
    placement="crop",
)
training_args = dict(
    output_dir="outputs/llava_v1_7b_pretrain",
    per_device_train_batch_size=16,  # samples per GPU, 128 a step
    learning_rate=2e-3,
)
data_args = dict(train=_base_.INSTRUCT_LLAVA_CC3M_595K, max_length=2048)
