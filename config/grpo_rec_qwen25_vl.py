# Referring expressions with Qwen2.5-VL 3B by rewards: GRPO in the manner of VLM-R1, whose settings of G, temperature,
# beta and rate these are. Answers are boxes alone: for this task VLM-R1's users found thinking to bring nothing (its
# issue 82). To have the model think first, ask for it in the questions, and add thinking=True to the reward "form".
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/grpo_rec_qwen25_vl.py \
#               --cfg-options model_args.model_name_or_path=/path/to/Qwen2.5-VL-3B-Instruct
# hardware  4 GPUs of 80 GB
# score     not measured by us; compare with config/rec_qwen25_vl.py on the same photos and minutes
_base_ = ["_base_/train/native_lora.py", "catalogue/refcoco.py"]

training_args = dict(
    output_dir="outputs/grpo_rec_qwen25_vl",
    max_steps=500,  # VLM-R1's
    per_device_train_batch_size=1,  # photos per GPU, with up to eight expressions each
    gradient_accumulation_steps=2,  # 4 GPUs take about 25 expressions a step, with 200 answers
    learning_rate=1e-5,  # 1e-6 where all weights are trained
    warmup_steps=0,
    lr_scheduler_type="linear",
    max_grad_norm=1.0,
    logging_steps=1,  # steps
    save_steps=100,  # steps
)
model_args = dict(
    type="hf",
    model_name_or_path="checkpoints/Qwen2.5-VL-3B-Instruct",
    freeze=["vision_tower"],
    adapters=dict(type="lora", targets=["language_model"], r=64, alpha=128, dropout=0.0),
    image_processor=dict(size=dict(shortest_edge=56 * 56, longest_edge=768 * 28 * 28)),  # pixels: up to 768 tokens
    dtype="bfloat16",
)
data_args = dict(
    train=dict(type="SamePicture", dataset=dict(_base_.REC_REF3_TRAIN, answer="<boxes>")),
    collator_kwargs=dict(packing="shared"),  # a photo is read once for its expressions, an expression for its answers
    validation=dict(_base_.REC_REFCOCO_UNC_VAL, answer="<boxes>"),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=48, do_sample=False),
)
reward_args = dict(
    rewards=dict(iou="BoxIoU", form="Readable"),
    num_generations=8,
    temperature=1.0,
    max_completion_length=64,  # tokens
    beta=0.04,
    loss_type="grpo",
)
