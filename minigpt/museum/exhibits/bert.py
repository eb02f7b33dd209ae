"""Mistakes planted in BERT, its heads and its losses."""

from minigpt.museum.encoder_checks import (
    bert_answer_gradients,
    bert_gradients,
    bert_initial_weights,
    bert_sequence_gradients,
    classified_by_hand,
    encoder_losses,
    encoder_padding,
    everybody_hears_everybody,
    golden_bert,
)
from minigpt.museum.planting import Edit, gradient, other

GOLDEN = "golden: losses of Hugging Face's BERT"
BODY = [
    other(
        "BERT: GPT-2's causal mask left on",
        Edit(
            "models.bert", "BERT.wire",
            "c.num_attention_heads, dropout=c.dropout", "c.num_attention_heads, causal=True, dropout=c.dropout",
        ),
        "invariance: every token hears every other", everybody_hears_everybody, "later tokens",
        "learns, to a higher loss: each hidden token is guessed from the words before it alone", bert_gradients,
    ),
    other(
        "BERT: padding seen in training",
        Edit(
            "models.encoder", "EncoderModel.loss_forward",
            'shared = Shared(key_mask=batch["attention_mask"])', "shared = Shared()",
        ),
        "invariance: padded = alone", encoder_padding, "loss, gradient",
        "short texts in a batch of long ones are embedded differently than alone", bert_gradients,
    ),
    other(
        "BERT: token types not added, both ways",
        (
            Edit("models.bert", "BERT.hidden", "x + types", "x"),
            Edit("models.bert", "BERT.hidden_backward", "self.token_types.backward(g, dx, cache.token_types)", "pass"),
        ),
        GOLDEN, golden_bert, "targets, next_sentence",
        "none in training from scratch; a checkpoint from elsewhere confuses two sentences", bert_gradients,
    ),
    gradient(
        "BERT: the token types' gradient never taken", "models.bert", "BERT.hidden_backward",
        "self.token_types.backward(g, dx, cache.token_types)", "pass", bert_gradients, "token_types.weight",
        "the two sentences look alike for good; next-sentence accuracy suffers a little",
    ),
    other(
        "BERT: the embeddings' norm left out, both ways",
        (
            Edit("models.bert", "BERT.hidden", "x, ln_0 = self.ln_0.forward(p, x)", "ln_0 = None"),
            Edit("models.bert", "BERT.hidden_backward", "dx = self.ln_0.backward(g, dx, cache.ln_0)", "pass"),
        ),
        GOLDEN, golden_bert, "targets, next_sentence",
        "from scratch the first block sees vectors that are short; a checkpoint from elsewhere gives soup",
        bert_gradients,
    ),
    other(
        "BERT: norms before the layers, as GPT-2's, both ways",
        (
            Edit("layers.block", "PostNormBlock.forward", "a, attn = self.attn.forward(p, x,",
                 "h, ln_1 = self.ln_1.forward(p, x)\n    a, attn = self.attn.forward(p, h,"),
            Edit("layers.block", "PostNormBlock.forward", "x, ln_1 = self.ln_1.forward(p, x + a)", "x = x + a"),
            Edit("layers.block", "PostNormBlock.forward", "m, mlp = self.mlp.forward(p, x,",
                 "h, ln_2 = self.ln_2.forward(p, x)\n    m, mlp = self.mlp.forward(p, h,"),
            Edit("layers.block", "PostNormBlock.forward", "x, ln_2 = self.ln_2.forward(p, x + m)", "x = x + m"),
            Edit("layers.block", "PostNormBlock.backward", "dx = self.ln_2.backward(g, dy, cache.ln_2)", "dx = dy"),
            Edit("layers.block", "PostNormBlock.backward", "dx = dx + self.mlp.backward(g, dx, cache.mlp)",
                 "dx = dx + self.ln_2.backward(g, self.mlp.backward(g, dx, cache.mlp), cache.ln_2)"),
            Edit("layers.block", "PostNormBlock.backward", "dx = self.ln_1.backward(g, dx, cache.ln_1)", "pass"),
            Edit("layers.block", "PostNormBlock.backward", "self.attn.backward(g, dx, cache.attn, dshared)",
                 "self.ln_1.backward(g, self.attn.backward(g, dx, cache.attn, dshared), cache.ln_1)"),
        ),
        GOLDEN, golden_bert, "targets, next_sentence",
        "none from scratch, it even trains more easily; a checkpoint from elsewhere gives soup", bert_gradients,
    ),
    other(
        "BERT: GPT-2's epsilon in its norms",
        Edit("models.bert", "BERT.wire", '"h.{i}.ln_1", C, eps=c.layer_norm_eps', '"h.{i}.ln_1", C'),
        GOLDEN, golden_bert, "targets, next_sentence",
        "none, but outputs of a checkpoint from elsewhere agree to a few digits only", bert_gradients,
    ),
    gradient(
        "BERT: dropout of the embeddings forgotten in backward", "models.bert", "BERT.hidden_backward",
        "dx = dropout_backward(dx, cache.drop)", "pass", bert_gradients, "ln_0.bias",
        "embeddings get noise for a gradient as dropout rises",
    ),
    other(
        "BERT: residual projections scaled down as GPT-2's",
        Edit("models.bert", "BERT.wire", "activation=c.activation, dropout=c.dropout)",
             "activation=c.activation, dropout=c.dropout, residual_std=0.02 / (2 * c.num_hidden_layers) ** 0.5)"),
        "golden: BERT's initial deviations", bert_initial_weights, "c_proj",
        "none: a norm follows each sum", bert_gradients,
    ),
]  # fmt: skip
HEADS = [
    other(
        "masked-LM head: its norm left out, both ways",
        (
            Edit("layers.heads", "MaskedLMHead.forward", "h, ln = self.ln.forward(p, h)", "ln = None"),
            Edit("layers.heads", "MaskedLMHead.backward", "dh = self.ln.backward(g, dh, cache.ln)", "pass"),
        ),
        GOLDEN, golden_bert, "targets",
        "from scratch a little worse; a checkpoint from elsewhere is sure of itself and wrong", bert_gradients,
    ),
    gradient(
        "masked-LM head: GELU skipped in backward", "layers.heads", "MaskedLMHead.backward",
        "dh = activation_backward(dh, cache.activation)", "pass", bert_gradients, "transform.bias",
        "learns, a little worse: the slope is between 0 and 1.1 anyway",
    ),
    other(
        "tied head: its bias lost, both ways",
        (
            Edit("layers.embedding", "TiedHead.forward", "p[self.bias.name] if self.bias else None", "None"),
            Edit("layers.embedding", "TiedHead.backward", "if self.bias and self.bias.name in g", "if False"),
        ),
        GOLDEN, golden_bert, "targets",
        "rare tokens are guessed too often: how frequent a token is has to be learned by the table", bert_gradients,
    ),
    gradient(
        "tied head: its bias never learns", "layers.embedding", "TiedHead.backward",
        "+= dbias", "+= 0 * dbias", bert_gradients, "head.bias",
        "the first steps are slow: how frequent each token is would be learned by the bias at once",
    ),
    gradient(
        "masked positions: the gradient handed to the first tokens, not to the masked", "layers.heads",
        "MaskedLMHead.backward",
        "embedding_backward(dx, cache.rows)",
        "np.pad(dx, ((0, cache.shape[0] * cache.shape[1] - len(dx)), (0, 0)))", bert_gradients, "h.0.ln_2.weight",
        "the head learns the unigrams, and no more: the blocks hear of errors that others made",
    ),
    other(
        "pooler: the last token for the first, both ways",
        (
            Edit("layers.heads", "Pooler.forward", "x[:, 0]", "x[:, -1]"),
            Edit("layers.heads", "of_first_token", "dx[:, 0]", "dx[:, -1]"),
        ),
        GOLDEN, golden_bert, "next_sentence",
        "learns from full rows; where texts are padded it reads the padding", bert_gradients,
    ),
    gradient(
        "pooler: the slope of tanh left out", "ops.activations", "tanh_backward",
        "dy * (1 - y * y)", "dy * np.ones_like(y)", bert_gradients, "pooler.bias",
        "learns while the pooled vector is small; then it saturates, and is pushed farther",
    ),
    other(
        "next sentence: its loss left out",
        Edit(
            "models.encoder", "EncoderModel.loss_forward",
            "HEADS[self.config.head]}", 'HEADS[self.config.head] if name != "next_sentence"}',
        ),
        "oracle: losses in loops", encoder_losses, "pretraining",
        "the loss is 0.69 lower at once; accuracy stays at one half", bert_gradients,
    ),
    other(
        "pre-training: both terms divided by the number of masked tokens",
        Edit("models.encoder", "EncoderModel.loss_forward", "divisors[name]", "max(divisors.values())"),
        "oracle: losses in loops", encoder_losses, "pretraining, question_answering",
        "next sentence weighs a twentieth: it is learned late or never", bert_gradients,
    ),
    other(
        "answers: the two losses added up, not averaged",
        Edit("models.encoder", "EncoderModel.check_batch", "halves = 2 if", "halves = 1 if"),
        "oracle: losses in loops", encoder_losses, "question_answering",
        "gradients twice as long as the recipe's learning rate expects; Adam hides it", bert_answer_gradients,
    ),
    gradient(
        "answers: the gradients of first and last token swapped", "models.encoder", "EncoderModel.heads_backward",
        "dspans[..., i] = dpart", "dspans[..., 1 - i] = dpart", bert_answer_gradients, "spans.weight",
        "answers come out backwards: the first token after the last",
    ),
    gradient(
        "classifier: its dropout forgotten in backward", "layers.heads", "Classifier.backward",
        "dropout_backward(self.out.backward(g, dy, cache.out), cache.dropout)", "self.out.backward(g, dy, cache.out)",
        bert_sequence_gradients, "pooler.bias",
        "fine-tunes, with noise for a gradient below the classifier",
    ),
    other(
        "classifier: of the hidden state, the pooler skipped, both ways",
        (
            Edit("models.encoder", "EncoderModel.heads", "h if pooled is None else pooled, rng",
                 "h if pooled is None else h[:, 0], rng"),
            Edit("models.encoder", "EncoderModel.heads_backward", "if self.pooler is None:",
                 "if dx.ndim == 2:\n            dh[:, 0] += dx\n        elif self.pooler is None:"),
        ),
        "oracle: classified by hand", classified_by_hand, "sequence_classification",
        "fine-tunes, a little worse: the trained pooler is thrown away", bert_sequence_gradients,
    ),
]  # fmt: skip
EXHIBITS = BODY + HEADS
