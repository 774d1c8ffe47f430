# RefCOCO, RefCOCO+ and RefCOCOg: the eight splits, each with its report and a joint table.
#
# command   mllm predict config/eval/refcoco.py --cfg-options model_args.type=llava model_args.model_name_or_path=DIR
#           mllm predict config/eval/refcoco.py --api http://127.0.0.1:8000/v1 --model NAME --codec qwen3_vl
_base_ = ["../_base_/train/eval.py", "../catalogue/refcoco.py"]

training_args = dict(output_dir="outputs/refcoco")
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
