"""Unigram tokenizers for tests, and tokenizer.json's parts of which they are made."""

from minigpt import UnigramTokenizer
from minigpt.tokenizers import AddedToken
from minigpt.tokenizers.unigram_files import BYTE_DECODER, BYTES, METASPACE, T5_PRE_TOKENIZER, t5_template

PIECES = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("t", -4.0), ("h", -4.5)]
PIECES += [("e", -3.5), ("s", -3.75), ("he", -5.0), ("▁snail", -6.0), ("s▁", -20.0), ("ai", -6.5), ("n", -4.25)]
PIECES += [("▁caf", -7.0), ("é", -6.0), (".", -4.0), ("<", -8.0), (">", -8.0), ("▁slow", -6.5), ("ly", -5.5)]
SENTINELS = [(f"<extra_id_{i}>", 0.0) for i in (2, 1, 0)]
SPECIAL = ("<pad>", "</s>", "<unk>")


def added(pieces, special=SPECIAL):
    """AddedToken of the special ones among pieces."""
    return [AddedToken(p, i) for i, (p, _) in enumerate(pieces) if p in special or p.startswith("<extra")]


def t5_like(pieces=PIECES, **changes):
    """A tokenizer of T5's layout."""
    pieces = [*pieces, *SENTINELS]
    settings = {"unk_id": 2, "pre_tokenizer": T5_PRE_TOKENIZER, "normalizer": {"type": "NFKC"}}
    settings |= {"added": added(pieces), "post_processor": t5_template(("</s>", 1))}
    return UnigramTokenizer(pieces, **(settings | changes))


T5_LIKE = t5_like()
PLAIN = UnigramTokenizer(PIECES, unk_id=2, added=added(PIECES))  # Metaspace alone
WITH_BYTES = UnigramTokenizer(
    [*PIECES, *((byte, -30.0) for byte in BYTES)],
    unk_id=2,
    byte_fallback=True,
    decoder=BYTE_DECODER,
    added=added(PIECES),
)
UNCUT = UnigramTokenizer(PIECES, unk_id=2, pre_tokenizer=METASPACE | {"split": False}, added=added(PIECES))
ALL = {"T5": T5_LIKE, "Metaspace": PLAIN, "bytes": WITH_BYTES, "not cut": UNCUT}
