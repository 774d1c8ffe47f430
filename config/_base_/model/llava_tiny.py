# A LLaVA of 0.6 M parameters from random weights, with a tokenizer trained on the training set: seconds to build,
# minutes to train on two cores. Coordinates are tokens of the vocabulary, 49 steps across the padded square.
model_args = dict(
    type="llava",
    vision_tower=dict(
        model_type="siglip_vision_model",
        image_size=48,  # pixels
        patch_size=8,  # pixels: 36 tokens per image
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=2,
        num_attention_heads=6,
        vision_use_head=False,
    ),
    connector="linear",
    feature_layer=-1,
    language_model=dict(
        model_type="llama",
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.05,  # so narrow a model starts too slowly from the usual 0.02
    ),
    tokenizer=dict(vocab_size=500),
    codec=dict(type="bins", bins=49),
    template=dict(type="vicuna_v1", system=""),
    placement="pad",
)
