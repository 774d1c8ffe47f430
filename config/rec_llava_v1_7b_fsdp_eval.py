# Score a model of rec_llava_v1_7b_fsdp.py on the eight splits of RefCOCO, RefCOCO+ and RefCOCOg, each with its report.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_llava_v1_7b_fsdp_eval.py \
#               --cfg-options model_args.model_name_or_path=outputs/rec_llava_v1_7b
_base_ = ["_base_/model/llava_v1_7b.py", "_base_/train/eval.py", "catalogue/refcoco.py"]

training_args = dict(output_dir="outputs/rec_llava_v1_7b_eval")
data_args = dict(
    multitest=dict(
        refcoco_val=dict(cfg=_base_.REC_REFCOCO_UNC_VAL),
        refcoco_testA=dict(cfg=_base_.REC_REFCOCO_UNC_TESTA),
        refcoco_testB=dict(cfg=_base_.REC_REFCOCO_UNC_TESTB),
        refcoco_plus_val=dict(cfg=_base_.REC_REFCOCO_PLUS_UNC_VAL),
        refcoco_plus_testA=dict(cfg=_base_.REC_REFCOCO_PLUS_UNC_TESTA),
        refcoco_plus_testB=dict(cfg=_base_.REC_REFCOCO_PLUS_UNC_TESTB),
        refcocog_val=dict(cfg=_base_.REC_REFCOCOG_UMD_VAL),
        refcocog_test=dict(cfg=_base_.REC_REFCOCOG_UMD_TEST),
    ),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=64),
)
