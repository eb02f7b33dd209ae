"""Mistakes planted in T5: its two stacks, what goes from one to the other, and its head."""

from minigpt.museum.planting import Edit, gradient, other
from minigpt.museum.two_stack_checks import (
    decoder_inputs,
    decoding_is_forward,
    gated_t5_gradients,
    golden_t5_losses,
    queries_learn_slowly,
    source_padding,
    t5_gradients,
    t5_initial_weights,
    t5_numbers,
    who_hears_whom,
)

GOLDEN = "golden: losses of Hugging Face's T5"
STACKS = [
    gradient(
        "T5: the memory's gradient never handed to the encoder", "models.encoder_decoder",
        "EncoderDecoderModel.add_backward",
        "self.decode_backward(g, dh, cache.decoder)", "0 * self.decode_backward(g, dh, cache.decoder)",
        t5_gradients, "encoder.ln_f.weight",
        "the decoder becomes a language model; what it is given to read stays a random hash of the source",
    ),
    other(
        "cross-attention: keys and values of the decoder's own text, both ways",
        (
            Edit("layers.cross_attention", "CrossAttention.forward", "self.c_attn.forward(p, shared.memory)",
                 "self.c_attn.forward(p, x)"),
            Edit("layers.cross_attention", "CrossAttention.forward", "keys=shared.memory_mask", ""),
            Edit("layers.cross_attention", "CrossAttention.backward",
                 'dshared.add("memory", self.c_attn.backward(g, dkv, cache.c_attn))',
                 "own = self.c_attn.backward(g, dkv, cache.c_attn)"),
            Edit("layers.cross_attention", "CrossAttention.backward",
                 "return self.q_attn.backward(g, dq, cache.q_attn)",
                 "return own + self.q_attn.backward(g, dq, cache.q_attn)"),
        ),
        "invariance: who hears whom", who_hears_whom, "decoder, memory",
        "the loss is too good, as each token sees those to come; the source is never read", t5_gradients,
    ),
    other(
        "cross-attention: the memory's padding seen",
        Edit("layers.cross_attention", "CrossAttention.forward", "keys=shared.memory_mask", ""),
        "invariance: padded = alone", source_padding, "loss",
        "a short source is translated otherwise in a batch of long ones than alone", t5_gradients,
    ),
    other(
        "cross-attention: GPT-2's causal mask left on",
        Edit("layers.cross_attention", "CrossAttention.forward", "Mask(keys", "Mask(causal=True, keys"),
        "invariance: who hears whom", who_hears_whom, "memory",
        "the end of the source is read by the last tokens alone: what is translated first is guessed", t5_gradients,
    ),
    other(
        "T5: the encoder's attention causal",
        Edit("models.t5", "T5.wire", "causal=False", "causal=True"),
        "invariance: who hears whom", who_hears_whom, "encoder",
        "learns, to a higher loss: a source is read from left to right and never looked back at", t5_gradients,
    ),
    other(
        "T5: the causal mask missing in the decoder",
        Edit("models.t5", "T5.wire", "causal=True", "causal=False"),
        "invariance: who hears whom", who_hears_whom, "decoder",
        "the loss falls towards 0 in no time: each token sees the answer; what is generated is soup", t5_gradients,
    ),
    other(
        "T5: the encoder sees its padding",
        Edit("models.t5", "T5.encode", "Shared(key_mask=key_mask, bias=bias)", "Shared(bias=bias)"),
        "invariance: padded = alone", source_padding, "memory, loss",
        "a short source is read otherwise in a batch of long ones than alone", t5_gradients,
    ),
]  # fmt: skip
BLOCKS = [
    other(
        "T5: scores divided by sqrt(D), both ways",
        Edit("models.t5", "T5.wire", '"scale": 1.0', '"scale": None'),
        GOLDEN, golden_t5_losses, "v1.0, v1.1",
        "from scratch attention stays flat: the initial weights have the factor already; a checkpoint from elsewhere "
        "gives soup",
        t5_gradients,
    ),
    other(
        "T5: the relative bias never added, both ways",
        (
            Edit("models.t5", "T5.encode", "key_mask=key_mask, bias=bias", "key_mask=key_mask"),
            Edit("models.t5", "T5.encode_backward", "self.encoder_bias.backward(g, dshared.bias, cache.bias)", "pass"),
        ),
        GOLDEN, golden_t5_losses, "v1.0, v1.1",
        "the encoder reads a bag of words: it has no other positions", t5_gradients,
    ),
    other(
        "T5: buckets for both directions in the decoder",
        Edit("models.t5", "T5.wire", "bidirectional=False", "bidirectional=True"),
        GOLDEN, golden_t5_losses, "v1.0, v1.1",
        "none from scratch, half of a table never learns; a checkpoint from elsewhere mixes up distances",
        t5_gradients,
    ),
    other(
        "T5: heads of d_model / num_heads channels, not of d_kv",
        Edit("models.t5", "T5.wire", '"head_channels": D', '"head_channels": None'),
        "accounting: numbers of t5-3b", t5_numbers, "t5-3b",
        "none with t5-small, where they are the same; t5-3b has a quarter of its attention", t5_gradients,
    ),
    other(
        "T5: biases in its matrices",
        Edit("models.t5", "T5.wire", '"scale": 1.0, "bias": False', '"scale": 1.0, "bias": True'),
        "accounting: numbers of t5-small", t5_numbers, "t5-small, t5-3b",
        "none: they start at zero; a checkpoint from elsewhere has no tensors for them", t5_gradients,
    ),
    other(
        "T5: GPT-2's epsilon in its norms",
        Edit("models.t5", "T5.wire", "RMSNorm(name, C, eps=c.layer_norm_epsilon)", "RMSNorm(name, C, eps=1e-5)"),
        GOLDEN, golden_t5_losses, "v1.0, v1.1",
        "none, but logits of a checkpoint from elsewhere agree to a few digits only", t5_gradients,
    ),
    other(
        "T5: GPT-2's MLP for v1.0's",
        Edit("models.t5", "T5.wire", "mlp, activation = FEED_FORWARD[c.feed_forward_proj]",
             'mlp, activation = FEED_FORWARD[c.feed_forward_proj]\n'
             '    activation = activation.replace("relu", "gelu_tanh")'),
        GOLDEN, golden_t5_losses, "v1.0",
        "none from scratch; a checkpoint from elsewhere is a little worse in each block", t5_gradients,
    ),
    other(
        "T5: the encoder's final norm left out, both ways",
        (
            Edit("models.t5", "T5.encode", "x, ln_f = self.encoder_ln_f.forward(p, x)", "ln_f = None"),
            Edit("models.t5", "T5.encode_backward", "dx = self.encoder_ln_f.backward(g, dx, cache.ln_f)", "pass"),
        ),
        GOLDEN, golden_t5_losses, "v1.0, v1.1",
        "the memory is as long as all branches together: cross-attention is one-hot, and does not train", t5_gradients,
    ),
    gradient(
        "T5: dropout of a stack's output forgotten in backward", "models.t5", "T5.decode_backward",
        "dx = dropout_backward(dh, cache.drop_f)", "dx = dh", t5_gradients, "decoder.ln_f.weight",
        "all below the head gets noise for a gradient as dropout rises",
    ),
    gradient(
        "T5: dropout of the decoder's input forgotten in backward", "models.t5", "T5.decode_backward",
        "dx = dropout_backward(dx, cache.drop)", "pass", t5_gradients, "wte.weight",
        "the table gets noise for a gradient as dropout rises",
    ),
    other(
        "T5: initial weights of queries as those of keys",
        Edit("models.t5", "T5.wire", "(C * D) ** -0.5", "C**-0.5"),
        "golden: T5's initial deviations", t5_initial_weights, "queries",
        "scores start sqrt(D) times too large: attention is one-hot from the first step", t5_gradients,
    ),
    other(
        "T5: queries learn as fast as keys",
        Edit("layers.attention", "query_rate", "head_channels**-0.5 / scale", "1.0"),
        "oracle: a step by its rates", queries_learn_slowly, "self-attention, cross-attention",
        "learns, until attention saturates: a step moves the small matrix of queries as far as a large one",
        t5_gradients,
    ),
]  # fmt: skip
HEAD = [
    gradient(
        "T5: the table's gradient of the encoder's ids lost", "models.t5", "T5.encode_backward",
        "self.wte.backward(g, dx, cache.wte)", "pass", t5_gradients, "wte.weight",
        "tokens that are only read, such as those of a language translated from, keep random vectors",
    ),
    gradient(
        "T5: the table's gradient of the decoder's ids lost", "models.t5", "T5.decode_backward",
        "self.wte.backward(g, dx, cache.wte)", "pass", t5_gradients, "wte.weight",
        "what was written last is hardly seen: the table learns it from the head alone",
    ),
    other(
        "T5: the tied head's input not scaled, both ways",
        Edit("models.t5", "T5Config.output_scale", "self.d_model**-0.5 if scaled else 1.0", "1.0"),
        GOLDEN, golden_t5_losses, "v1.0",
        "the loss starts at 100 nats, since the table starts at 1; a checkpoint from elsewhere repeats itself",
        t5_gradients,
    ),
    gradient(
        "T5: the head's scale forgotten in backward", "models.t5", "T5.head_backward",
        "* self.config.output_scale", "", t5_gradients, "decoder.ln_f.weight",
        "all below the head learns sqrt(C) times too fast; Adam hides it, clipping does not",
    ),
    other(
        "T5: an untied head's input scaled, too, both ways",
        Edit("models.t5", "T5Config.output_scale", "if scaled else 1.0", "if True else 1.0"),
        GOLDEN, golden_t5_losses, "v1.1",
        "none from scratch; v1.1 from elsewhere is never sure of anything", gated_t5_gradients,
    ),
    other(
        "T5: the decoder's input not shifted",
        Edit("models.encoder_decoder", "shift_right", "np.roll(targets, 1, axis=1)", "targets.copy()"),
        "accounting: decoder's input by loops", decoder_inputs, "tokens, ignored",
        "the loss falls to 0 at once: the decoder copies what it is fed; what is generated repeats one token",
    ),
    other(
        "T5: the decoder starts with the end token",
        Edit("models.encoder_decoder", "EncoderDecoderModel.check_batch", "c.decoder_start_token_id",
             "c.eos_token_id"),
        GOLDEN, golden_t5_losses, "v1.0, v1.1",
        "trains well; started with padding, as generate does, it writes a worse first word",
    ),
    other(
        "T5: ignored targets fed to the decoder as they are",
        Edit("models.encoder_decoder", "shift_right", "np.where(moved == IGNORED, pad, moved)", "moved"),
        "accounting: decoder's input by loops", decoder_inputs, "ignored",
        "an index out of range; or, where a negative one is allowed, a hundredth row from the table's end",
    ),
    other(
        "T5: in decoding, the relative bias counted from the newest token",
        Edit("models.t5", "T5.decode", "forward(p, T, before + T)", "forward(p, T, T)"),
        "invariance: cached = uncached", decoding_is_forward, "later tokens",
        "trains well; what is generated is worse than the loss promises: all it wrote seems to stand at one place",
    ),
]  # fmt: skip
EXHIBITS = STACKS + BLOCKS + HEAD
