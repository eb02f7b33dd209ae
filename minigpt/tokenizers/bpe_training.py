"""Training a byte-level BPE: words of a text are counted, and the most frequent pairs of neighbours
become tokens, one after the other (see pair_merging).
"""

from collections import Counter

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError
from minigpt.tokenizers.added import LARGEST_VOCABULARY, AddedToken, refuse_halves
from minigpt.tokenizers.base import checked_text
from minigpt.tokenizers.byte_level import ALPHABET, blocks, to_characters, words
from minigpt.tokenizers.pair_merging import learn_merges


def learn_bpe(texts, vocab_size, special_tokens, min_frequency, add_prefix_space):
    """A text, or an iterable of texts -> (token -> id, merges, AddedToken in a list).

    Ids: the special tokens, the 256 bytes in the order of their characters, the merges' tokens.
    MinigptError for a vocabulary too small for the first two.
    """
    special_tokens = checked_special(special_tokens)
    tokens = list(special_tokens) + [c for c in ALPHABET if c not in special_tokens]
    whole("vocab_size", vocab_size, at_least=len(tokens), at_most=LARGEST_VOCABULARY)
    whole("min_frequency", min_frequency, at_least=0)
    ids = {token: i for i, token in enumerate(tokens)}
    counts = count_words(texts, add_prefix_space)
    rows = [[ids[c] for c in to_characters(word.encode())] for word in counts]
    pairs = learn_merges(rows, list(counts.values()), tokens, vocab_size, min_frequency=min_frequency)
    merges = [(tokens[a], tokens[b]) for a, b in pairs]
    # fairseq's and Hugging Face's <mask> takes the space before it along
    added = [AddedToken(token, i, lstrip=token == "<mask>") for i, token in enumerate(special_tokens)]
    return {token: i for i, token in enumerate(tokens)}, merges, added


def checked_special(tokens):
    """Special tokens as a tuple. MinigptError for one that is no text, empty, or stands twice."""
    if isinstance(tokens, str) or not hasattr(tokens, "__iter__"):
        raise MinigptError(f"special_tokens is {shortened(tokens)}, it must be a list of strings")
    tokens = tuple(tokens)
    for i, token in enumerate(tokens):
        if not isinstance(token, str) or not token:
            raise MinigptError(f"special_tokens[{i}] is {shortened(token)}, it must be a string that is not empty")
        if token in tokens[:i]:
            raise MinigptError(f"special_tokens[{i}], {shortened(token)}, stands twice")
    refuse_halves(tokens, "special_tokens")
    return tokens


def count_words(texts, add_prefix_space=False):
    """A text, or an iterable of texts -> Counter of their words."""
    counts = Counter()
    for text in [texts] if isinstance(texts, str | bytes) or not hasattr(texts, "__iter__") else texts:
        text = checked_text(text)
        if add_prefix_space and text and not text.startswith(" "):
            text = f" {text}"
        for block in blocks(text):
            counts.update(words(block))
    return counts
