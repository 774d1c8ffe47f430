# A LLaVA of about 1.3 M parameters from random weights, with a tokenizer trained on the training set: seconds to build,
# minutes to train on two cores. Coordinates are tokens of the vocabulary, 65 steps across the padded square.
model_args = dict(
    type="llava",
    vision_tower=dict(
        model_type="clip_vision_model",
        image_size=48,  # pixels
        patch_size=8,  # pixels: 36 tokens a picture
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
    ),
    connector="linear",
    feature_layer=-1,
    language_model=dict(
        model_type="llama",
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    ),
    tokenizer=dict(vocab_size=600),
    codec=dict(type="bins", bins=65),
    template=dict(type="vicuna_v1", system=""),
    placement="pad",
)
