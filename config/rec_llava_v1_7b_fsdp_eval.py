# Score a model of rec_llava_v1_7b_fsdp.py on the eight splits of RefCOCO, RefCOCO+ and RefCOCOg, each with its report.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/rec_llava_v1_7b_fsdp_eval.py \
#               --cfg-options model_args.model_name_or_path=outputs/rec_llava_v1_7b
_base_ = ["_base_/model/llava_v1_7b.py", "eval/refcoco.py"]

training_args = dict(output_dir="outputs/rec_llava_v1_7b_eval")
