# Referring expressions with InternVL3 2B in transformers' layout (-hf), LoRA: boxes as `<box>[[..]]</box>` in
# thousandths of the image.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_internvl.py \
#               --cfg-options model_args.model_name_or_path=/path/to/InternVL3-2B-hf
# hardware  4 GPUs of 40 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

training_args = dict(
    output_dir="outputs/rec_internvl",
    per_device_train_batch_size=2,  # photos per GPU, with up to eight expressions each
    gradient_accumulation_steps=1,  # 4 GPUs take about 50 expressions a step
)
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/InternVL3-2B-hf",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05, unfrozen=["connector"]),
    image_processor=dict(max_patches=6),  # tiles per image, besides the whole image
    dtype="bfloat16",
)
data_args = dict(
    train=dict(type="SamePicture", dataset=dict(_base_.REC_REF3_TRAIN, answer="<boxes>")),
    collator_kwargs=dict(packing="shared"),  # the expressions of a photo share its tokens
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<boxes>"),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=32, do_sample=False),
)
