import numpy as np
import pytest
from bpe_samples import GPT2_LIKE, PREFIXED, ROBERTA_LIKE, TEXT, TEXTS, with_words

from minigpt import CharTokenizer, WordPieceTokenizer
from minigpt.tokenizers import parts
from minigpt.tokenizers.parts import encode_parts

ALL = "".join(TEXTS) + TEXT
KINDS = [
    GPT2_LIKE,
    PREFIXED,
    ROBERTA_LIKE,
    with_words(),
    CharTokenizer.from_text(ALL),
    WordPieceTokenizer.train(TEXT, 300),
]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("tokenizer", KINDS)
def test_parts_have_the_ids_of_the_whole(tokenizer, special, monkeypatch, rng):
    monkeypatch.setattr(parts, "PART", 20)
    for text in [*TEXTS, ALL]:
        cuts = np.sort(rng.integers(0, len(text) + 1, 12)).tolist()
        cut = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
        found = list(encode_parts(tokenizer, cut, special))
        assert np.concatenate(found).tolist() == tokenizer.encode(text, special).tolist()


def test_parts_are_encoded_as_they_come(monkeypatch):
    monkeypatch.setattr(parts, "PART", 100)
    asked = []

    def endless():
        for i in range(10**9):
            asked.append(i)
            yield "one two\nthree  four " * 5

    stream = encode_parts(GPT2_LIKE, endless())
    for _ in range(5):
        next(stream)
    assert len(asked) < 10


def test_a_text_without_spaces_waits_for_its_end(monkeypatch):
    monkeypatch.setattr(parts, "PART", 10)
    assert [len(ids) for ids in encode_parts(GPT2_LIKE, ["x" * 30] * 3)] == [0, 90, 0]
