# RefCOCO, RefCOCO+ and RefCOCOg without the expressions that Ref-L4's authors found faulty; the eight splits.
#
# command   mllm predict config/eval/refcoco_reviewed.py --cfg-options model_args.model_name_or_path=DIR
# data      tools/convert/refcoco.py FOLDER --reviewed refcoco_val_reviewed.json ...
# source    Chen et al. 2024 (Ref-L4, arXiv 2406.16866); JierunChen/Ref-L4, refcocos_annotation_reviewed
_base_ = ["../_base_/train/eval.py", "../catalogue/refcoco.py"]

training_args = dict(output_dir="outputs/refcoco_reviewed")
data_args = dict(
    multitest=dict(
        refcoco_val=dict(
            cfg=dict(_base_.REC_REFCOCO_UNC_VAL, filename="data/annotations/REC_refcoco_unc_val_reviewed.jsonl")
        ),
        refcoco_testA=dict(
            cfg=dict(_base_.REC_REFCOCO_UNC_TESTA, filename="data/annotations/REC_refcoco_unc_testA_reviewed.jsonl")
        ),
        refcoco_testB=dict(
            cfg=dict(_base_.REC_REFCOCO_UNC_TESTB, filename="data/annotations/REC_refcoco_unc_testB_reviewed.jsonl")
        ),
        refcoco_plus_val=dict(
            cfg=dict(_base_.REC_REFCOCO_PLUS_UNC_VAL, filename="data/annotations/REC_refcoco+_unc_val_reviewed.jsonl")
        ),
        refcoco_plus_testA=dict(
            cfg=dict(
                _base_.REC_REFCOCO_PLUS_UNC_TESTA, filename="data/annotations/REC_refcoco+_unc_testA_reviewed.jsonl"
            )
        ),
        refcoco_plus_testB=dict(
            cfg=dict(
                _base_.REC_REFCOCO_PLUS_UNC_TESTB, filename="data/annotations/REC_refcoco+_unc_testB_reviewed.jsonl"
            )
        ),
        refcocog_val=dict(
            cfg=dict(_base_.REC_REFCOCOG_UMD_VAL, filename="data/annotations/REC_refcocog_umd_val_reviewed.jsonl")
        ),
        refcocog_test=dict(
            cfg=dict(_base_.REC_REFCOCOG_UMD_TEST, filename="data/annotations/REC_refcocog_umd_test_reviewed.jsonl")
        ),
    ),
    compute_metric="REC",
    gen_kwargs=dict(max_new_tokens=64),
)
