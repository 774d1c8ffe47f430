# Referring expressions with PaliGemma 2 3B at 448 pixels, LoRA: `detect {expression}`, answered in `<loc....>` tokens.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_paligemma.py \
#               --cfg-options model_args.model_name_or_path=/path/to/paligemma2-3b-pt-448
# hardware  4 GPUs of 40 GB
# score     not measured by us
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

training_args = dict(output_dir="outputs/rec_paligemma")
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/paligemma2-3b-pt-448",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=16, alpha=32, dropout=0.05, unfrozen=["connector"]),
    dtype="bfloat16",
)
data_args = dict(
    train=dict(_base_.REC_REF3_TRAIN, answer="<boxes>", questions="config/questions/detect.json"),
    collator_kwargs=dict(packing="rows"),  # no photo is shared: it is read in the light of the expression
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<boxes>", questions="config/questions/detect.json"),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=8, do_sample=False),
)
