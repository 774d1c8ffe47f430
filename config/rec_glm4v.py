# Referring expressions with GLM-4.1V 9B, LoRA: boxes in thousandths of the image between GLM-V's box tokens, asked as
# in its README.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_glm4v.py \
#               --cfg-options model_args.model_name_or_path=/path/to/GLM-4.1V-9B-Thinking
# hardware  4 GPUs of 80 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

QUESTIONS = "config/questions/eval/rec_glm.json"
training_args = dict(
    output_dir="outputs/rec_glm4v",
    per_device_train_batch_size=2,  # photos per GPU, with up to eight expressions each
    gradient_accumulation_steps=1,  # 4 GPUs take about 50 expressions a step
)
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/GLM-4.1V-9B-Thinking",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05),
    image_processor=dict(size=dict(shortest_edge=112 * 112, longest_edge=2 * 768 * 28 * 28)),  # up to 768 tokens
    dtype="bfloat16",
)
data_args = dict(
    train=dict(type="SamePicture", dataset=dict(_base_.REC_REF3_TRAIN, answer="<boxes>", questions=QUESTIONS)),
    collator_kwargs=dict(packing="shared"),  # the expressions of a photo share its tokens
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<boxes>", questions=QUESTIONS),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=48, do_sample=False),
)
