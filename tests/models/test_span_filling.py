"""Gaps of a text: found, written into, and how likely what was written is."""

import numpy as np
import pytest
from pieces import SentinelPieces

from minigpt import GPT, T5, GPTConfig, MinigptError, T5Config
from minigpt.models.span_filling import fill_spans, gaps_of, joined, probabilities, with_gaps

TOKENIZER = SentinelPieces("to be or not that is the question".split(), sentinels=3)  # noqa: SIM905
TOKENIZER.continues = np.zeros(TOKENIZER.vocab_size, bool)
TOKENIZER.decode = lambda ids: " ".join(TOKENIZER.pieces[i] for i in ids)
ID = TOKENIZER.token_to_id
PAD, EOS = TOKENIZER.pad_id, TOKENIZER.eos_id
S0, S1, S2 = TOKENIZER.sentinel_ids


@pytest.fixture(scope="module")
def model():
    config = T5Config(TOKENIZER.vocab_size, d_model=8, d_kv=3, d_ff=10, num_layers=1, num_heads=2)
    model = T5(config, dtype=np.float64)
    model.store.vector[:] = np.random.default_rng(1).standard_normal(model.num_parameters)
    return model


def spelt(ids):
    return " ".join(TOKENIZER.pieces[i] for i in ids)


def test_gaps_are_sentinels_or_marks():
    assert spelt(with_gaps(TOKENIZER, "to <extra_id_1> or<extra_id_0>")) == "to <extra_id_1> or <extra_id_0> </s>"
    assert spelt(with_gaps(TOKENIZER, "___ to ____ ___ be")) == "<extra_id_0> to <extra_id_1> <extra_id_2> be </s>"
    assert gaps_of(TOKENIZER, "to <extra_id_2> ___") == [S2]  # one or the other
    assert with_gaps(TOKENIZER, "to <extra_id_2> ___").tolist() == [ID("to"), S2, TOKENIZER.unk_id, EOS]


def test_what_is_written_goes_into_its_own_gap():
    source = np.array([ID("to"), S0, ID("or"), S2, S1, ID("is"), EOS])
    written = np.array([PAD, S0, ID("be"), ID("not"), S1, ID("that"), EOS, PAD])
    ids, spans = joined(source, written, TOKENIZER)
    assert spelt(ids) == "to be not or that is"
    assert [spelt(span) for span in spans] == ["be not", "", "that"]  # in the order of the text
    ids, spans = joined(source, np.array([PAD, ID("be"), S1, ID("not")]), TOKENIZER)
    assert spelt(ids) == "to or not is" and spans[0] == []


def test_probability_is_that_of_all_that_is_written(model):
    source = with_gaps(TOKENIZER, "to be ___ not ___")
    written = np.array([[PAD, S0, 4, 5, S1, EOS, PAD], [PAD, S0, 6, EOS, PAD, PAD, PAD], [PAD, 7, 7, 7, 7, 7, 7]])
    found = probabilities(model, source, written)
    for row, length, p in zip(written, (5, 3, 6), found):
        expected = 1.0
        for place in range(length):
            z = model.logits(source[None], row[None, : place + 1])[0, -1]
            expected *= np.exp(z[row[place + 1]]) / np.exp(z).sum()
        assert p == pytest.approx(expected, rel=1e-10)


def test_the_likeliest_come_first_and_one_is_greedy(model):
    text = "to be ___ not ___ question"
    source = with_gaps(TOKENIZER, text)
    found = fill_spans(model, TOKENIZER, text, 4, room=2)
    assert [f.probability for f in found] == sorted((f.probability for f in found), reverse=True)
    assert 1 <= len(found) <= 4 and all(len(f.spans) == 2 for f in found)
    for filling in found:
        a, b = filling.spans
        words = with_gaps(TOKENIZER, text).tolist()
        assert filling.ids.tolist() == [*words[:2], *a, words[3], *b, words[5]]
    greedy = fill_spans(model, TOKENIZER, text, room=2)
    written = model.generate(source[None], 2 * 3 + 1, temperature=0)
    assert len(greedy) == 1
    assert greedy[0].ids.tolist() == joined(source, written[0], TOKENIZER)[0].tolist()
    assert greedy[0].probability == pytest.approx(probabilities(model, source, written)[0])


class Written(T5):
    """A T5 that writes what it is told to."""

    def generate(self, ids, max_new_tokens, temperature, num_beams=1, num_return_sequences=1, length_penalty=1.0):
        return self.rows[:num_return_sequences]


def test_ways_that_read_the_same_are_one_and_begin_words(model):
    tokenizer = SentinelPieces(["to", "be", "##be", "not", "##not", "n"], sentinels=2)
    tokenizer.continues = np.array([piece.startswith("##") for piece in tokenizer.pieces])
    tokenizer.decode = lambda ids: "".join(tokenizer.pieces[i].replace("##", "") for i in ids)
    to, be, be_on, no, no_on = (tokenizer.token_to_id(piece) for piece in ("to", "be", "##be", "not", "##not"))
    s0 = tokenizer.sentinel_ids[0]
    writes = Written(T5Config(tokenizer.vocab_size, d_model=8, d_kv=3, d_ff=10, num_layers=1, num_heads=2))
    spans = [[be_on], [be, no], [be, no_on], [no], []]
    writes.rows = np.array([[PAD, s0, *span, EOS, *[PAD] * (2 - len(span))] for span in spans])
    p = probabilities(writes, with_gaps(tokenizer, "to ___"), writes.rows)
    found = fill_spans(writes, tokenizer, "to ___", 3)
    assert {tokenizer.decode(f.spans[0]): f.probability for f in found} == pytest.approx(
        {"benot": p[1] + p[2], "not": p[3]}, rel=1e-5
    )
    assert [f.probability for f in found] == sorted((f.probability for f in found), reverse=True)
    found = fill_spans(writes, tokenizer, "to___", 3)  # the gap may go on with the word before it
    assert {tokenizer.decode(f.spans[0]) for f in found} == {"be", "benot", "not"}
    assert len(fill_spans(writes, tokenizer, "to___", 2)) == 2
    writes.rows = writes.rows[[0, 4]]
    assert fill_spans(writes, tokenizer, "to ___", 3)[0].ids.tolist() == [to, be_on]  # better than nothing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("to be", "the text has no gap"),
        ("", "the text has no gap"),
        ("to <mask>", "the text has <mask>, which is for a BERT or RoBERTa; a gap is <extra_id_0> or ___ here"),
        ("___ ___ ___ ___", "the text has 4 gaps, the tokenizer has 3 sentinels for them"),
        ("<extra_id_0> <extra_id_3>", "the text has '<extra_id_3>', the tokenizer has <extra_id_0> to <extra_id_2>"),
        ("<extra_id_0> <extra_id_0>", "the text has <extra_id_0> 2 times, each gap needs one of its own"),
    ],
)
def test_texts_that_can_not_be_filled_are_named(model, text, message):
    with pytest.raises(MinigptError, match=message):
        fill_spans(model, TOKENIZER, text)


def test_models_and_tokenizers_that_fill_nothing_are_named(model):
    with pytest.raises(MinigptError, match="the model is a gpt: filling gaps needs a model of two stacks"):
        fill_spans(GPT(GPTConfig(14, 9, 1, 1, 2)), TOKENIZER, "___")
    with pytest.raises(MinigptError, match="the tokenizer has no sentinels"):
        fill_spans(model, SentinelPieces(["a"], sentinels=0), "___")
    for option in ({"top": 0}, {"top": 101}, {"room": 0}):
        with pytest.raises(MinigptError, match=r"(top|room) is (0|101), it must be a whole number"):
            fill_spans(model, TOKENIZER, "to ___", **option)
