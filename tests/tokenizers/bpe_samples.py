"""Small byte-level BPE tokenizers, and texts that are hard on them, for several tests."""

from minigpt import BPETokenizer
from minigpt.tokenizers import AddedToken
from minigpt.tokenizers.bpe_files import ROBERTA

TEXT = (
    "It's one thing to say we'll go, and another to've gone. In 1984 they'd gone 42 times.\n\n"
    "Zoë's café is één van de mooiste cafés, zo'n 's ochtends koffie drinkende ruïne.\n"
    "\tif x  ==  10:\n\t\treturn   [x]  # 日本語のテキスト и русский текст\n"
    "👩‍👩‍👧‍👦 and 👍🏽 and 🇳🇱, ½ ² ٣ Ⅷ \u00a0\u2003\u3000 end\u2028line\r\n"
) * 3

TEXTS = [
    "",
    " ",
    "a",
    "  two  spaces  ",
    "It's we'll they've I'M 'S don''t ''s",
    "Zoë\u0308 één e\u0301e\u0301n ĳs",
    "👩‍👩‍👧‍👦👍🏽🇳🇱 x👩‍👩‍👧‍👦y",
    "\t\n \r\n  \x00\x1c\x1f\x85\xa0\u200b\u2028 \u3000x",
    "日本語 русский עברית العربية ไทย हिन्दी",
    "1234 ½²٣Ⅷ 12a34",
    "<|endoftext|>a <|endoftext|> b<s></s> <mask>  <mask>.",
    "ⅷ\U0001d7d8\ufffd\uffff\U0010ffff",
]

GPT2_LIKE = BPETokenizer.train(TEXT, 400)
ROBERTA_LIKE = BPETokenizer.train(TEXT, 420, ROBERTA)
PREFIXED = BPETokenizer.train(TEXT, 300, ("<|endoftext|>", "<pad>"), add_prefix_space=True)


def with_words():
    """GPT2_LIKE with added tokens of all sorts."""
    size = GPT2_LIKE.vocab_size
    words = [
        AddedToken("één", size, special=False),
        AddedToken("cafe", size + 1, single_word=True, special=False),
        AddedToken("[L]", size + 2, lstrip=True),
        AddedToken("[R]", size + 3, rstrip=True),
        AddedToken("<|end", size + 4, normalized=True, special=False),
        AddedToken("two  ", size + 5, single_word=True, lstrip=True, rstrip=True, special=False),
    ]
    return BPETokenizer(GPT2_LIKE.model_vocab, GPT2_LIKE.merges, added=[*GPT2_LIKE.added.tokens, *words])
