# Referring expressions with Florence-2 large, LoRA: `Locate the phrases in the caption: {expression}`, answered with
# the expression and its box in `<loc_...>` tokens.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_florence2.py \
#               --cfg-options model_args.model_name_or_path=/path/to/Florence-2-large
# hardware  4 GPUs of 24 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

QUESTIONS = "config/questions/phrase_grounding.json"
training_args = dict(
    output_dir="outputs/rec_florence2",
    per_device_train_batch_size=16,  # samples per GPU; each reads its own image, since an encoder shares nothing
    gradient_accumulation_steps=1,  # 4 GPUs take 64 samples a step
)
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/Florence-2-large",  # in transformers' layout, such as florence-community's
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05, unfrozen=["connector"]),
    dtype="bfloat16",
)
data_args = dict(
    train=dict(_base_.REC_REF3_TRAIN, answer="<expr><boxes>", questions=QUESTIONS),
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<expr><boxes>", questions=QUESTIONS),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=64, do_sample=False, num_beams=1),
)
