"""T5 against GPT-2, v1.0 and v1.1.

Raffel et al. 2019, arXiv:1910.10683; v1.1 is the authors' later release, with the gate of Shazeer
2020, arXiv:2002.05202. What the paper leaves open is as in transformers.
"""

from minigpt.explain.family import Family, Line

STACKS = (
    Line(
        "two stacks",
        "one stack reads and writes one text",
        "an encoder reads a text, a decoder writes another: memory = encode(ids), logits from decode(targets, memory)",
        "dmemory = decode_backward(dh), and the encoder hears of the loss through it alone",
        "models.encoder_decoder.EncoderDecoderModel.add_backward",
        "T5: the memory's gradient never handed to the encoder",
    ),
    Line(
        "attention",
        "a token sees those before it: s <= t",
        "in the encoder all of its text; in the decoder as before",
        "of the encoder nothing is hidden: dk[s] = sum over all t of dscores[t, s] q[t]",
        "models.t5.T5.wire",
        "T5: the encoder's attention causal",
    ),
    Line(
        "cross-attention",
        "a block has two layers: attention and MLP",
        "a decoder's has a third between them: q = ln(x) @ Wq of what is written, k, v = memory @ Wkv of what is read",
        "dx = dq @ Wq^T of the one, dmemory = dkv @ Wkv^T of the other",
        "layers.cross_attention.CrossAttention.forward",
        "cross-attention: keys and values of the decoder's own text, both ways",
    ),
    Line(
        "memory",
        "each block reads the block below",
        "all blocks of the decoder read one memory, the encoder's last output",
        "dmemory = sum over the decoder's blocks of dkv @ Wkv^T, added up while they are run backwards",
        "layers.shared.SharedGradients.add",
        "cross-attention: the memory's gradient overwritten by each layer",
    ),
    Line(
        "cross mask",
        "a causal mask in every layer",
        "none in cross-attention: each token that is written sees the whole source",
        "dk, dv of every token of the memory gather from all T queries",
        "layers.cross_attention.CrossAttention.forward",
        "cross-attention: GPT-2's causal mask left on",
    ),
    Line(
        "padding",
        "training texts are cut to one length, none is padded",
        "the source's padding is hidden in the encoder",
        "dk[s] = dv[s] = 0 there: no gradient flows to padding",
        "models.t5.T5.encode",
        "T5: the encoder sees its padding",
    ),
    Line(
        "memory's padding",
        "no memory",
        "and again in cross-attention: the decoder's queries see S keys, with the mask of the source",
        "dmemory[s] = 0 at padding",
        "layers.cross_attention.CrossAttention.forward",
        "cross-attention: the memory's padding seen",
    ),
    Line(
        "decoder's input",
        "x[t] is token t, its target token t + 1: one text, cut twice",
        "targets, moved one place to the right: decoder_input[t] = target[t - 1]",
        "dlogits = (p - one_hot(target)) / count, as GPT-2's; ids have no gradient",
        "models.encoder_decoder.shift_right",
        "T5: the decoder's input not shifted",
    ),
    Line(
        "start token",
        "the first token is given, and no target",
        "decoder_input[0] is the padding token, and the first token is a target as well",
        "row 0 of the table learns from the start of every text",
        "models.encoder_decoder.EncoderDecoderModel.check_batch",
        "T5: the decoder starts with the end token",
    ),
    Line(
        "ignored targets",
        "nothing follows what is ignored",
        "a target of -100 is fed to the decoder as padding",
        "dlogits = 0 at it; what follows it, if anything, is learned as from padding",
        "models.encoder_decoder.shift_right",
        "T5: ignored targets fed to the decoder as they are",
    ),
)
POSITIONS = (
    Line(
        "positions",
        "x = wte[ids] + wpe[t]",
        "x = wte[ids]; scores[h, t, s] = q[t] k[s] + bias[h, bucket(s - t)]",
        "dbias is what reaches the scores: dscores itself, after the softmax and before q and k",
        "models.t5.T5.encode",
        "T5: the relative bias never added, both ways",
    ),
    Line(
        "scores",
        "scores = q k^T / sqrt(D)",
        "scores = q k^T + bias; the factor stands in the initial weights of q",
        "dq = dscores k and dk = dscores^T q, without a factor",
        "models.t5.T5.wire",
        "T5: scores divided by sqrt(D), both ways",
    ),
    Line(
        "bias after scale",
        "nothing is added to the scores",
        "where scores are scaled, the bias is not: scale * q k^T + bias",
        "dbias = dscores, dq = scale * dscores k",
        "ops.attention.attention_forward",
        "attention: the bias scaled like the scores, both ways",
    ),
    Line(
        "direction",
        "no table of distances",
        "of the encoder's 32 buckets 16 are for keys up to the query, 16 for those behind it: 16 (s > t) + f(|s - t|)",
        "each half of the table learns from its triangle of dscores",
        "ops.relative.relative_buckets",
        "relative buckets: keys before and behind the query swapped",
    ),
    Line(
        "decoder's buckets",
        "no table of distances",
        "of the decoder all 32 are for keys up to the query: f(t - s)",
        "the lower triangle alone; bucket 0 is each token's own place",
        "models.t5.T5.wire",
        "T5: buckets for both directions in the decoder",
    ),
    Line(
        "one side",
        "no table of distances",
        "the decoder's f counts from the query back: max(t - s, 0)",
        "dweight[n] = sum of dscores[t, t - n]",
        "ops.relative.relative_buckets",
        "relative buckets: one-sided ones for the keys behind the query",
    ),
    Line(
        "near distances",
        "a row of wpe for each place",
        "half of a side's N buckets are distances, 0 .. N / 2 - 1, one each",
        "a row learns from one diagonal of dscores",
        "ops.relative.relative_buckets",
        "relative buckets: near distances shared, as far ones are",
    ),
    Line(
        "far distances",
        "a row of wpe for each place",
        "the others grow by a factor: E + floor(log(n / E) / log(128 / E) (N - E)), E = N / 2",
        "a row learns from several diagonals, the more the farther",
        "ops.relative.relative_buckets",
        "relative buckets: the logarithm's off by one",
    ),
    Line(
        "farthest distances",
        "no position beyond wpe's last row",
        "all from 128 on are in the last bucket: a text may have any length",
        "that row learns from the two corners of dscores, if the text is long enough",
        "ops.relative.relative_buckets",
        "relative buckets: the last one never reached",
    ),
    Line(
        "one table a stack",
        "positions enter once, below the first block",
        "one bias, for all blocks of a stack",
        "dbias = sum over the blocks of dscores: each adds its own to one array",
        "layers.shared.SharedGradients.add",
        "relative bias: its gradient of one layer alone",
    ),
    Line(
        "all texts",
        "dwpe[t] = sum over the batch",
        "bias (1, H, T, S), the same for all texts of the batch",
        "dbias = sum over b of dscores[b]",
        "ops.attention.attention_backward",
        "attention: the bias's gradient of the first text alone",
    ),
    Line(
        "diagonals",
        "dwpe[t] is one place's",
        "bias[h, t, s] = weight[bucket(s - t), h]",
        "dweight[n, h] = sum of dbias[h, t, s] over all pairs in bucket n: along diagonals, then over a bucket's",
        "ops.relative.relative_bias_backward",
        "relative bias: its gradient a mean over the pairs of a distance",
    ),
)
BLOCKS = (
    Line(
        "norms",
        "y = (x - mean(x)) rstd w + b",
        "y = x / sqrt(mean(x^2) + eps) w: no mean, no bias",
        "dx = rstd (dxhat - xhat mean(dxhat xhat)): LayerNorm's without mean(dxhat)",
        "ops.normalization.rmsnorm_forward",
        "RMSNorm: the mean taken off first, both ways",
    ),
    Line(
        "epsilon",
        "rstd = 1 / sqrt(var + 1e-5)",
        "rstd = 1 / sqrt(mean(x^2) + 1e-6)",
        "the same rstd",
        "models.t5.T5.wire",
        "T5: GPT-2's epsilon in its norms",
    ),
    Line(
        "final norm",
        "x = ln_f(x) once, before the head",
        "in both stacks: the encoder's before the memory is handed on, the decoder's before the head",
        "dmemory goes through ln_f.backward once, after all of the decoder's blocks have added to it",
        "models.t5.T5.encode",
        "T5: the encoder's final norm left out, both ways",
    ),
    Line(
        "biases",
        "in every linear map: y = x @ W + b",
        "in none: y = x @ W",
        "no db",
        "models.t5.T5.wire",
        "T5: biases in its matrices",
    ),
    Line(
        "head width",
        "D = C / H channels a head",
        "d_kv channels a head, free of C / H: c_attn is (C, 3 H D), c_proj (H D, C)",
        "dx = dqkv @ W^T all the same",
        "models.t5.T5.wire",
        "T5: heads of d_model / num_heads channels, not of d_kv",
    ),
    Line(
        "MLP",
        "GELU, tanh form",
        "v1.0: relu(x @ W1) @ W2",
        "dh = da where h > 0, else 0",
        "models.t5.T5.wire",
        "T5: GPT-2's MLP for v1.0's",
    ),
    Line(
        "gate",
        "one matrix up, one down",
        "v1.1: two up: a = gelu(x @ Wg) * (x @ Wf), then a @ Wo",
        "dx = dgate @ Wg^T + dvalue @ Wf^T",
        "layers.mlp.GatedMLP.forward",
        "gated MLP: gate and value swapped, both ways",
    ),
    Line(
        "gate's gradient",
        "dh = da gelu'(h)",
        "v1.1: a = gelu(h) * value",
        "dh = da * value * gelu'(h): the value scales what the gate hears",
        "layers.mlp.GatedMLP.backward",
        "gated MLP: the gate's activation skipped in backward",
    ),
    Line(
        "value's gradient",
        "none",
        "v1.1: a = gelu(h) * value",
        "dvalue = da * gelu(h), dgelu = da * value: each is multiplied by the other",
        "ops.gating.gate_backward",
        "gate: the gradients of gate and value swapped",
    ),
)
DROPOUT = (
    Line(
        "MLP's dropout",
        "dropout on what the MLP adds",
        "and inside of it, on what is activated: dropout(relu(x @ W1)) @ W2",
        "two masks, each taken back in its place: da = m1 * (dy @ W2^T) before relu's",
        "layers.mlp.MLP.backward",
        "MLP: its inner dropout forgotten in backward",
    ),
    Line(
        "final dropout",
        "none behind the last norm",
        "dropout(ln_f(x)), of both stacks",
        "dh = m * dh before ln_f.backward",
        "models.t5.T5.decode_backward",
        "T5: dropout of a stack's output forgotten in backward",
    ),
    Line(
        "embedding dropout",
        "x = dropout(wte[ids] + wpe[t])",
        "x = dropout(wte[ids]), in both stacks, with masks of their own",
        "each takes its own mask back before it adds to the one table",
        "models.t5.T5.decode_backward",
        "T5: dropout of the decoder's input forgotten in backward",
    ),
)
HEAD = (
    Line(
        "tokens",
        "wte is read twice: below the blocks and, tied, in the head",
        "three times: by the encoder, by the decoder and, in v1.0, by the head",
        "dwte = sum of three: dlogits^T h, and the rows of dx of either stack",
        "models.t5.T5.encode_backward",
        "T5: the table's gradient of the encoder's ids lost",
    ),
    Line(
        "head",
        "logits = x @ wte^T",
        "v1.0: logits = (x / sqrt(C)) @ wte^T, since the table starts at 1",
        "dwte gathers dlogits^T (x / sqrt(C))",
        "models.t5.T5Config.output_scale",
        "T5: the tied head's input not scaled, both ways",
    ),
    Line(
        "head's scale",
        "dx = dlogits @ wte",
        "v1.0: the factor is before the product",
        "dx = (dlogits @ wte) / sqrt(C)",
        "models.t5.T5.head_backward",
        "T5: the head's scale forgotten in backward",
    ),
    Line(
        "untied head",
        "the head is the table",
        "v1.1: logits = x @ lm_head, a matrix of its own, without a factor",
        "dwte is a sum of two, dlm_head = x^T dlogits",
        "models.t5.T5Config.output_scale",
        "T5: an untied head's input scaled, too, both ways",
    ),
    Line(
        "initial weights",
        "normal(0, 0.02), 0.02 / sqrt(2 n_layer) for what writes into x",
        "by what a matrix sums over: C^-1/2, (HD)^-1/2, F^-1/2; q (CD)^-1/2, tokens 1",
        "gradients start at the size of x, whatever the widths",
        "models.t5.T5.wire",
        "T5: initial weights of queries as those of keys",
    ),
    Line(
        "cached positions",
        "a new token's place is its row of wpe",
        "in decoding the newest of S tokens has bias[h, 0, s] = weight[bucket(s - (S - 1)), h]",
        "none: nothing is trained there",
        "models.t5.T5.decode",
        "T5: in decoding, the relative bias counted from the newest token",
    ),
)


def size(d_model, d_kv, d_ff, num_layers, num_heads):
    """One of the sizes of the paper's section 3.7, with the vocabulary of the files that Google
    published.
    """
    sizes = {"d_model": d_model, "d_kv": d_kv, "d_ff": d_ff, "num_layers": num_layers, "num_heads": num_heads}
    return {"vocab_size": 32128, **sizes}


def later(*sizes):
    """... of v1.1."""
    return size(*sizes) | {"feed_forward_proj": "gated-gelu", "tie_embeddings": False}


FAMILY = Family(
    name="t5",
    model_type="t5",
    title="T5",
    source="Raffel et al. 2019, Exploring the limits of transfer learning with a unified text-to-text transformer, "
    "arXiv:1910.10683; v1.1: Shazeer 2020, GLU variants improve transformer, arXiv:2002.05202",
    against="GPT-2",
    lines=STACKS + POSITIONS + BLOCKS + DROPOUT + HEAD,
    blocks=("num_layers", "num_decoder_layers"),
    sizes={
        "t5-small": size(512, 64, 2048, 6, 8),
        "t5-base": size(768, 64, 3072, 12, 12),
        "t5-large": size(1024, 64, 4096, 24, 16),
        "t5-3b": size(1024, 128, 16384, 24, 32),
        "t5-11b": size(1024, 128, 65536, 24, 128),
        "t5-v1_1-small": later(512, 64, 1024, 8, 6),
        "t5-v1_1-base": later(768, 64, 2048, 12, 12),
        "t5-v1_1-large": later(1024, 64, 2816, 24, 16),
        "t5-v1_1-xl": later(2048, 64, 5120, 24, 32),
        "t5-v1_1-xxl": later(4096, 64, 10240, 24, 64),
    },
    loss="cross-entropy of the next token",
)
