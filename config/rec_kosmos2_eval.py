# Score Kosmos-2 as it is released on the splits of RefCOCO: `<grounding><phrase> {expression}</phrase>`, answered
# by two cells of a grid of 32 x 32.
#
# command   accelerate launch --config_file accelerate_config/ddp.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_kosmos2_eval.py \
#               --cfg-options model_args.model_name_or_path=/path/to/kosmos-2-patch14-224
# score     not measured by us; published zero-shot acc@0.5 of 52.3 / 57.4 / 47.3 on RefCOCO val / testA / testB
#           (Peng et al. 2023, arXiv 2306.14824)
_base_ = ["_base_/train/eval.py", "catalogue/refcoco.py"]

training_args = dict(output_dir="outputs/rec_kosmos2_eval")
model_args = dict(type="hf", model_name_or_path="checkpoints/kosmos-2-patch14-224")
PHRASE = dict(questions="config/questions/phrase.json", answer="<boxes>")
data_args = dict(
    multitest=dict(
        refcoco_val=dict(cfg=dict(_base_.REC_REFCOCO_UNC_VAL, **PHRASE)),
        refcoco_testA=dict(cfg=dict(_base_.REC_REFCOCO_UNC_TESTA, **PHRASE)),
        refcoco_testB=dict(cfg=dict(_base_.REC_REFCOCO_UNC_TESTB, **PHRASE)),
    ),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=8, do_sample=False),
)
