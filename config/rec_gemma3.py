# Referring expressions with Gemma 3 4B, LoRA: boxes as Gemini writes them, `{"box_2d": [y1, x1, y2, x2]}`, in
# thousandths.
# The tokens of an image see one another, so that rows are not packed and nothing is shared.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_gemma3.py \
#               --cfg-options model_args.model_name_or_path=/path/to/gemma-3-4b-it
# hardware  4 GPUs of 40 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

training_args = dict(
    output_dir="outputs/rec_gemma3",
)
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/gemma-3-4b-it",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05, unfrozen=["connector"]),
    dtype="bfloat16",
)
data_args = dict(
    train=dict(_base_.REC_REF3_TRAIN, answer="<boxes>"),
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<boxes>"),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=48, do_sample=False),
)
