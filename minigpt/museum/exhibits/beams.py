"""Mistakes planted in beam search and in what it keeps of the texts."""

from minigpt.museum.planting import Edit, other
from minigpt.museum.search_oracles import (
    beam_search_by_loops,
    beams_cached,
    t5_beams_cached,
    t5_beams_cached_by_layers,
)
from minigpt.museum.two_stack_checks import t5_gradients

BY_LOOPS = "oracle: all texts in loops"
EXHIBITS = [
    other(
        "beam search: the length penalty's length one too long",
        Edit("beams", "best_ended", "float(s) / len(ids)", "float(s) / (len(ids) + 1)"),
        BY_LOOPS, beam_search_by_loops, "scores, sums",
        "translations are a little shorter than those of others with the same setting",
    ),
    other(
        "beam search: logits added up, not their logarithms of softmax",
        Edit("beams", "log_probabilities", "return logits - np.log(", "return logits - 0 * np.log("),
        BY_LOOPS, beam_search_by_loops, "scores, sums",
        "prefers words that come after an unsure one: texts ramble, the more beams the worse",
    ),
    other(
        "beam search: K equal beginnings",
        Edit("beams", "beam_search", "np.full((len(rows), K), -math.inf, log_p.dtype)",
             "np.zeros((len(rows), K), log_p.dtype)"),
        BY_LOOPS, beam_search_by_loops, "scores",
        "all beams say the same: it is greedy, at K times the price",
    ),
    other(
        "beam search: texts that ended are continued",
        (
            Edit("beams", "going_on", "np.where(ends, -math.inf, sums)", "np.where(False, -math.inf, sums)"),
            Edit("beams", "going_on", "np.argsort(ends,", "np.argsort(0 * ends,"),
        ),
        BY_LOOPS, beam_search_by_loops, "scores",
        "texts go on behind their end, with whatever is likely at the beginning of one",
    ),
    other(
        "beam search: the best of one text alone are kept",
        Edit("beams", "best_candidates", "np.divmod(candidates, V)", "np.divmod(candidates % V, V)"),
        BY_LOOPS, beam_search_by_loops, "scores, sums",
        "all beams go on from the first one's text, with the tokens and the scores of the others",
    ),
    other(
        "beam search: the KV cache not reordered with the beams",
        Edit("models.generation", "DecodingState.reorder", "kv.reorder(origins)",
             "kv.reorder(origins) if len(origins) != len(kv.keys) else None"),
        "invariance: cached = uncached", beams_cached, "scores",
        "each beam looks back at what another wrote; greedy decoding is right",
    ),
    other(
        "beam search: beams of one source read the memories of all",
        Edit("layers.cross_attention", "beside", "q.reshape(sources, K, H, T, D).swapaxes(1, 2)",
             "q.reshape(K, sources, H, T, D).transpose(1, 2, 0, 3, 4)"),
        "invariance: cached = uncached", t5_beams_cached_by_layers, "texts",
        "right for one source at a time; in a batch sentences are mixed up", t5_gradients,
    ),
    other(
        "beam search: on the fast path, beams of one source read the memories of all",
        Edit("models.fast_seq2seq", "FastCrossAttention.__init__", "rows.reshape(M, K, H, D).swapaxes(1, 2)",
             "rows.reshape(K, M, H, D).transpose(1, 2, 0, 3)"),
        "invariance: cached = uncached", t5_beams_cached, "texts",
        "right for one source at a time; in a batch sentences are mixed up",
    ),
    other(
        "fast decoding: the relative bias of the oldest tokens for the newest",
        Edit("models.fast_seq2seq", "FastT5Decoder.__call__", "self.state.room - self.state.length - 1 :",
             ": self.state.length + 1"),
        "invariance: cached = uncached", t5_beams_cached, "texts",
        "trains well; what is generated is worse than the loss promises: far tokens seem near, and near ones far",
    ),
]  # fmt: skip
