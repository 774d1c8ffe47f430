# Pointing with Molmo 2 4B, LoRA: `Point to the {expression}`, answered with a point on each thing that it means, as XML
# in thousandths of the image. Its image processor wants torchvision.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_molmo2.py \
#               --cfg-options model_args.model_name_or_path=/path/to/Molmo2-4B
# hardware  4 GPUs of 80 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/pixmo.py"]

QUESTIONS = "config/questions/eval/point_molmo2.json"
training_args = dict(
    output_dir="outputs/rec_molmo2",
    per_device_train_batch_size=2,  # photos per GPU, with up to eight expressions each
    gradient_accumulation_steps=1,  # 4 GPUs take about 50 expressions a step
)
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/Molmo2-4B",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05, unfrozen=["connector"]),
    dtype="bfloat16",
)
data_args = dict(
    train=dict(type="SamePicture", dataset=dict(_base_.PIXMO_POINTS_TRAIN, questions=QUESTIONS)),
    collator_kwargs=dict(packing="shared"),  # the expressions of a photo share its tokens
    validation=dict(_base_.PIXMO_POINTS_EVAL, questions=QUESTIONS),
    compute_metric=dict(type="PointIn", rule="match"),
    gen_kwargs=dict(max_new_tokens=256, do_sample=False),  # up to 15 points
)
