# Flan-T5 small: text in, text out, 77 M parameters. Name the folder of google/flan-t5-small with
# --cfg-options model_args.model_name_or_path=/path/to/flan-t5-small
model_args = dict(
    type="seq2seq",
    model_name_or_path="checkpoints/flan-t5-small",
)
