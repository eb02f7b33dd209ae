"""T5 against GPT-2, v1.0 and v1.1.

Raffel et al. 2019, arXiv:1910.10683; v1.1 is the authors' later release, with the gate of Shazeer
2020, arXiv:2002.05202. What the paper leaves open is as in transformers.
"""

from minigpt.explain.family import Family, Line
from minigpt.explain.t5_lines import MODEL

OBJECTIVE = (
    Line(
        "spans",
        "every token's target is the next one",
        "15% of a text's tokens are hidden, in spans of 3 in the mean, and written again by the decoder",
        "dlogits for the hidden tokens and the sentinels alone: a fifth as many rows as the text has",
        "objectives.spans.span_counts",
        "spans: 15% of the tokens begin a span",
    ),
    Line(
        "span length",
        "nothing is hidden",
        "as many spans as a third of the hidden tokens, cut at random, each way equally likely",
        "none: nothing is learned there",
        "objectives.spans.span_counts",
        "spans: one token each",
    ),
    Line(
        "span places",
        "nothing is hidden",
        "the row is turned round, at a place between two spans: any place may be hidden, its end too",
        "none: nothing is learned there",
        "objectives.spans.span_mask",
        "spans: the last one always at the end of its row",
    ),
    Line(
        "sentinels",
        "no special tokens but <|endoftext|>",
        "a span is one token of the source, <extra_id_0>, <extra_id_1>, ...: they count down from the vocabulary's end",
        "their rows of wte learn to ask and, in the head, to say where a span begins",
        "objectives.span_corruption.SpanCorruption.source_target",
        "spans: sentinels count upwards",
    ),
    Line(
        "source",
        "what is read is what is written",
        "the text without its spans; a span's first token becomes its sentinel, the others go",
        "dmemory has fewer rows than the text has tokens: S < L",
        "objectives.span_corruption.SpanCorruption.source_target",
        "spans: what is hidden left in the source",
    ),
    Line(
        "targets",
        "the text itself, a place later",
        "each sentinel, and what it stands for behind it",
        "dlogits = (p - one_hot) / count, at sentinels too: they say which span comes next",
        "objectives.span_corruption.SpanCorruption.source_target",
        "spans: the target without its sentinels",
    ),
    Line(
        "ends",
        "texts go on",
        "</s> behind source and target",
        "it is a target: the model learns to stop",
        "objectives.source_target.packed",
        "source and target: no end token behind them",
    ),
    Line(
        "targets' padding",
        "none: all texts have one length",
        "targets of a batch have their own lengths; padding is -100",
        "dlogits = 0 there, and count does not count it",
        "objectives.source_target.source_target_batch",
        "source and target: padding a target, too",
    ),
    Line(
        "prefix LM",
        "a text from its beginning",
        "an option: the source is its beginning, the target the rest, cut anywhere",
        "all of the rest are targets; the prefix learns through the memory alone",
        "objectives.prefix_lm.PrefixLM.source_target",
        "prefix LM: the source holds the target",
    ),
    Line(
        "pairs",
        "a prompt and its answer are one text",
        "a source and its target are two: translation, questions, whatever is a pair",
        "the source's tokens are no targets",
        "data.text_pairs.TextPairs.rows",
        "pairs: targets of other sources",
    ),
)
TOKENIZER = (
    Line(
        "pieces of a word",
        "byte-level BPE: pairs are merged, in the order in which they were learned",
        "Unigram: of all ways to cut a word the one with the largest sum of log p, by Viterbi's algorithm",
        "none: a row of wte learns what its piece is, however the piece was found",
        "tokenizers.viterbi.best_cut",
        "Unigram: the longest piece taken, not the best sum",
    ),
    Line(
        "unknown characters",
        "none: bytes are tokens",
        "<unk>, one for several in a row; as much as the least of all pieces less 10",
        "one row of wte learns all that is unknown",
        "tokenizers.unigram.UnigramTokenizer.word_pieces",
        "Unigram: an unknown token for each unknown character",
    ),
    Line(
        "vocabulary",
        "grows by the pair that occurs most often",
        "shrinks: each piece is counted in all cuts of all words, as much as these are probable",
        "the expected count is d log p(text) / d log p(piece): the lattice's backward pass",
        "tokenizers.unigram_training.expectation",
        "Unigram training: the best cut counted alone",
    ),
    Line(
        "pruning",
        "nothing is taken away",
        "in rounds those go without which the text would lose the least likelihood",
        "none: nothing is trained by gradients there",
        "tokenizers.unigram_training.most_missed",
        "Unigram training: the most useful pieces taken away",
    ),
)
DECODING = (
    Line(
        "beams",
        "tokens are drawn",
        "the K likeliest beginnings are continued side by side: sum of log p / length^penalty",
        "none: nothing is trained there",
        "beams.best_ended",
        "beam search: the length penalty's length one too long",
    ),
    Line(
        "beams' cache",
        "keys and values of one text",
        "of K beginnings, which change places with them",
        "none: nothing is trained there",
        "models.generation.DecodingState.reorder",
        "beam search: the KV cache not reordered with the beams",
    ),
    Line(
        "memory of the beams",
        "no memory",
        "each source's memory is kept once: the queries of its K beams stand beside each other",
        "none: nothing is trained there",
        "layers.cross_attention.beside",
        "beam search: beams of one source read the memories of all",
    ),
    Line(
        "repetition penalty",
        "none",
        "an option, of every family: logits of tokens that a text has, divided by it; negative ones multiplied",
        "none: nothing is trained there",
        "sampling.penalised",
        "repetition penalty: negative logits divided as well",
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
    lines=MODEL + OBJECTIVE + TOKENIZER + DECODING,
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
