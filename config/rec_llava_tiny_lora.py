# Low-rank adapters on the demo's tiny LLaVA: run `make demo` first. Its images had at most four shapes; here it learns
# images of five to eight. The language model itself stays as it is; the connector is trained in full.
# `mllm checkpoint merge outputs/rec_llava_tiny_lora OUT_DIR` makes one plain model of both.
#
# command   mllm train config/rec_llava_tiny_lora.py
# hardware  two CPU cores
# score     acc@0.5 0.273 on 512 held-out scenes; its base, untrained on such scenes: 0.256 (best constant box: 0.035)
_base_ = ["_base_/model/llava_tiny.py", "_base_/train/tiny.py", "catalogue/scenes.py"]

CROWDED = dict(type="Scenes", size=48, objects=[5, 8])
model_args = dict(
    model_name_or_path="outputs/demo_scenes",
    adapters=dict(
        type="lora",
        targets=["language_model"],
        r=8,
        alpha=16,
        dropout=0.05,
        unfrozen=["connector"],
    ),
)
training_args = dict(
    output_dir="outputs/rec_llava_tiny_lora",
    do_eval=True,
    max_steps=600,
    per_device_train_batch_size=12,
    learning_rate=5e-4,
    lr_scheduler_type="cosine",
    warmup_steps=20,
    logging_steps=50,
)
data_args = dict(
    train=dict(CROWDED, count=100000, seed=4, questions_per_scene=4),
    validation=dict(CROWDED, count=512, seed=5),
    collator_kwargs=dict(packing="shared"),
    compute_metric=dict(type="REC", constant_box=True),
    gen_kwargs=dict(max_new_tokens=16),
)
