"""Mistakes planted in Unigram: how it cuts words, and how its pieces are learned."""

from minigpt.museum.planting import Edit, other
from minigpt.museum.unigram_oracles import expectations_by_trying_all, useful_pieces, viterbi_by_trying_all

UNIGRAM, VITERBI = "tokenizers.unigram", "tokenizers.viterbi"
LATTICE, TRAINING = "tokenizers.unigram_lattice", "tokenizers.unigram_training"
CUTS = "oracle: all cuts of a word"
EXHIBITS = [
    other(
        "Unigram: the longest piece taken, not the best sum",
        Edit(VITERBI, "best_cut", "score += here if (ahead := score - best[end]) > 0",
             "score += here\n                if (ahead := score - best[end]) > -np.inf"),
        CUTS, viterbi_by_trying_all, "known, unknown",
        "more tokens, and others than the model was trained on; none with BPE's files, where it is no rule either",
    ),
    other(
        "Unigram: a piece's score without that of what is before it",
        Edit(VITERBI, "best_cut", "score += here", "score += 0"),
        CUTS, viterbi_by_trying_all, "known, unknown",
        "long words fall into pieces whose last one is likely by itself",
    ),
    other(
        "Unigram: an unknown character likelier than any piece",
        Edit(VITERBI, "best_cut", "score_of(text[start], unknown)", "score_of(text[start], 0.0)"),
        CUTS, viterbi_by_trying_all, "unknown",
        "letters that are no pieces by themselves are <unk>, though the pieces around them would do",
    ),
    other(
        "Unigram: an unknown token for each unknown character",
        Edit(UNIGRAM, "UnigramTokenizer.word_pieces", "held = start if held is None else held",
             "found += self.unknown_pieces(word, start, end)"),
        CUTS, viterbi_by_trying_all, "several",
        "a Chinese sentence is twenty times <unk>, for a model that never saw two of them side by side",
    ),
    other(
        "Unigram training: each word counted once, however often it occurs",
        Edit(TRAINING, "expectation", "weights, counts)", "weights, 0 * counts + 1)"),
        CUTS, expectations_by_trying_all, "expected",
        "pieces of rare words crowd out the common ones: a tenth more tokens",
    ),
    other(
        "Unigram training: the best cut counted alone",
        Edit(TRAINING, "expectation", "forward(lattice, scores)", "forward(lattice, scores, best=True)"),
        CUTS, expectations_by_trying_all, "expected",
        "what is second at the start is never used: it stops at the first vocabulary that it finds",
    ),
    other(
        "Unigram training: ways to a place not divided by their sum",
        Edit(LATTICE, "forward", "x / np.repeat(total, np.diff(heads))", "x"),
        CUTS, expectations_by_trying_all, "expected",
        "letters that can be written in many ways count more than once; short pieces stay that nobody needs",
    ),
    other(
        "Unigram training: the most useful pieces taken away",
        Edit(TRAINING, "most_missed", "top(loss,", "top(np.where(np.isfinite(loss), -loss, loss),"),
        "accounting: pieces that a text needs", useful_pieces, "stay",
        "the vocabulary is full of halves of words: as many tokens as with letters",
    ),
]  # fmt: skip
