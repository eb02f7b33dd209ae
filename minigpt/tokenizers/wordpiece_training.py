"""Training WordPiece: which pieces a vocabulary has.

As `tokenizers` does it (WordPieceTrainer), it is BPE's training on characters, of which those that
go on with a word are written with "##": "that" begins as t ##h ##a ##t, and the most frequent pair
becomes a piece, again and again (see pair_merging). The vocabulary begins with the special tokens,
the characters of the text by code point, and the same with "##", as far as they go on with a word.

>>> trained = train("that hat that salt", 17)
>>> print(*trained["vocab"])
[PAD] [UNK] [CLS] [SEP] [MASK] a h l s t ##a ##h ##l ##t ##at th that

"##at" was made first, 3 times. Then t ##h and ##h ##at occurred twice each: of pairs as frequent as
each other the smaller pair of ids is first, here the one with "t". At last th ##at.

In `tokenizers` the "##" characters have their ids in the order in which a hash table with a random
seed lists the words, so that two trainings on one text differ; here they stand by code point. Told
this order, as if they were special tokens, its trainer makes the same pieces in the same order.
"""

from collections import Counter

from minigpt.checks import shortened, whole
from minigpt.errors import MinigptError
from minigpt.tokenizers.added import AddedToken, AddedTokens
from minigpt.tokenizers.base import checked_text
from minigpt.tokenizers.basic import Basic, blocks, chunks, words_of
from minigpt.tokenizers.bpe_training import checked_special
from minigpt.tokenizers.pair_merging import learn_merges
from minigpt.tokenizers.pieces import usual_roles
from minigpt.tokenizers.templates import bert_template

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PREFIX = "##"
BASIC = Basic()


def train(texts, vocab_size, special_tokens=SPECIAL, basic=BASIC, *, min_frequency=1, limit_alphabet=None):
    """Arguments of WordPieceTokenizer for texts, see WordPieceTokenizer.train."""
    whole("vocab_size", vocab_size, at_least=1)
    whole("min_frequency", min_frequency, at_least=0)
    special = AddedTokens([AddedToken(token, i) for i, token in enumerate(checked_special(special_tokens))])
    roles = usual_roles(special)
    if "unk" not in roles:
        names = ", ".join(map(shortened, special.by_content)) or "none"
        raise MinigptError(f"special_tokens are {names}; '[UNK]' must be among them, for words that can't be written")
    counts = count_words(texts, basic)
    tokens = [*special.by_content]
    words = add_alphabet(tokens, counts, limit_alphabet)
    if vocab_size < len(tokens):
        characters = f"{len(special.tokens)} are special, the others characters"
        raise MinigptError(f"vocab_size is {vocab_size}, it must be at least {len(tokens)}: {characters}")
    learn_merges(words, list(counts.values()), tokens, vocab_size, join=join, min_frequency=min_frequency)
    vocab = {token: i for i, token in enumerate(tokens)}
    around = None
    if {"cls", "sep"} <= roles.keys():
        around = bert_template(*((roles[role], vocab[roles[role]]) for role in ("cls", "sep")))
    return {"vocab": vocab, "added": special.tokens, "unk_token": roles["unk"], "post_processor": around}


def count_words(texts, basic):
    """A text, or an iterable of texts -> Counter of the words that they have when normalised."""
    found, counts = Counter(), Counter()
    for text in [texts] if isinstance(texts, str | bytes) or not hasattr(texts, "__iter__") else texts:
        for block in blocks(basic.normalize(checked_text(text))):
            found.update(chunks(block))
    for chunk, count in found.items():
        for word in words_of(chunk):
            counts[word] += count
    return counts


def add_alphabet(tokens, counts, limit=None):
    """Add the characters of words to tokens, and those that go on with a word -> the words as lists
    of ids; without those beyond the limit, the least frequent ones.
    """
    if limit is not None:
        whole("limit_alphabet", limit, at_least=1)
    often = Counter()
    for word, count in counts.items():
        for c in word:
            often[c] += count
    kept = sorted(sorted(sorted(often), key=often.get, reverse=True)[:limit])
    known = set(kept) | set(tokens)
    later = sorted({c for word in counts for c in word[1:]} & known)
    ids = {token: i for i, token in enumerate(tokens)}
    for token in [*kept, *(PREFIX + c for c in later)]:
        if ids.setdefault(token, len(tokens)) == len(tokens):
            tokens.append(token)
    first, after = ({c: ids[prefix + c] for c in known if prefix + c in ids} for prefix in ("", PREFIX))
    return [
        [*(first[c] for c in word[:1] if c in known), *(after[c] for c in word[1:] if c in known)] for word in counts
    ]


def join(a, b):
    """Two pieces as one.

    >>> join("th", "##at"), join("##a", "##t")
    ('that', '##at')
    """
    return a + b.removeprefix(PREFIX)
