# LLaVA v1.5 7B, first stage: an MLP of two layers learns from 558K captions; Vicuna and CLIP at 336 pixels are frozen.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/llava_v1_5_7b_pretrain.py
# hardware  8 GPUs of 80 GB; 3.5 hours on A100s as LLaVA's README has it, not measured by us
# source    1 epoch, learning rate 1e-3, 256 images a step (Liu et al. 2023, arXiv 2310.03744)
_base_ = ["_base_/train/llava_fsdp.py", "catalogue/instruct.py"]

model_args = dict(
    type="llava",
    vision_tower="checkpoints/clip-vit-large-patch14-336",
    language_model="checkpoints/vicuna-7b-v1.5",
    connector="mlp2x_gelu",
    feature_layer=-2,
    freeze=["vision_tower", "language_model"],
    template="plain",
    placement="crop",
)
training_args = dict(
    output_dir="outputs/llava_v1_5_7b_pretrain",
    per_device_train_batch_size=32,  # samples per GPU, 256 a step
    learning_rate=1e-3,
)
data_args = dict(train=_base_.INSTRUCT_LLAVA_LCS_558K, max_length=2048)
