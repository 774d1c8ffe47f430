# Referring expressions with Qwen3.5 4B, LoRA: boxes as JSON in thousandths of the image, answered without thinking, as
# `thinking=False` is the default of the template. Its layers of linear attention keep a state, so that a row holds one
# sample.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_qwen35.py \
#               --cfg-options model_args.model_name_or_path=/path/to/Qwen3.5-4B
# hardware  4 GPUs of 40 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

QUESTIONS = "config/questions/eval/rec_qwen3_vl.json"
training_args = dict(output_dir="outputs/rec_qwen35")
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/Qwen3.5-4B",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05),
    image_processor=dict(size=dict(shortest_edge=64 * 64, longest_edge=768 * 32 * 32)),  # pixels: up to 768 tokens
    dtype="bfloat16",
)
data_args = dict(
    train=dict(_base_.REC_REF3_TRAIN, answer="<boxes>", questions=QUESTIONS),
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<boxes>", questions=QUESTIONS),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=48, do_sample=False),
)
