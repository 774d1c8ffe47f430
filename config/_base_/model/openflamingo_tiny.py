# An OpenFlamingo of 1.7 M parameters from random weights, with a tokenizer trained on the training set: images reach
# the language model through gated cross-attention before every layer. Coordinates are tokens of the vocabulary.
model_args = dict(
    type="openflamingo",
    vision_tower=dict(
        model_type="clip_vision_model",
        image_size=48,  # pixels
        patch_size=8,  # pixels: 36 patches per image
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=2,
        num_attention_heads=3,
    ),
    perceiver=dict(depth=2, latents=36, heads=3, head_width=32),
    cross_attn_every_n_layers=1,
    language_model=dict(
        model_type="llama",
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.05,  # so narrow a model starts too slowly from the usual 0.02
    ),
    freeze=[],  # from random weights all parts are trained; of pretrained ones only what is new
    tokenizer=dict(vocab_size=500),
    codec=dict(type="bins", bins=49),
    template="otter",
    placement="pad",
)
