# Referring expressions with Gemma 3 4B, LoRA: boxes as Gemini writes them, `{"box_2d": [y1, x1, y2, x2]}` in
# thousandths.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_gemma3.py \
#               --cfg-options model_args.model_name_or_path=/path/to/gemma-3-4b-it
# hardware  4 GPUs of 40 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

training_args = dict(
    output_dir="outputs/rec_gemma3",
    per_device_train_batch_size=2,  # photos per GPU, with up to eight expressions each
    gradient_accumulation_steps=1,  # 4 GPUs take about 50 expressions a step
)
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/gemma-3-4b-it",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05, unfrozen=["connector"]),
    dtype="bfloat16",
)
data_args = dict(
    train=dict(type="SamePicture", dataset=dict(_base_.REC_REF3_TRAIN, answer="<boxes>")),
    collator_kwargs=dict(packing="shared"),  # the expressions of a photo share its tokens
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<boxes>"),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=48, do_sample=False),
)
