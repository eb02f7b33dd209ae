import numpy as np
import pytest

import minigpt
from minigpt import MinigptError
from minigpt.models.translating import cross_attention, padded, source_ids, text_of, translate
from minigpt.tokenizers import AddedToken, UnigramTokenizer
from minigpt.tokenizers.unigram_files import T5_PRE_TOKENIZER, T5_SPECIAL

WORDS = ["een", "twee", "drie", "one", "two", "three", "nl:"]


@pytest.fixture(scope="module")
def tokenizer():
    pieces = [*T5_SPECIAL, *(f"▁{word}" for word in WORDS), "x"]
    added = [AddedToken(token, i) for i, token in enumerate(T5_SPECIAL)]
    options = {"unk_id": 2, "pre_tokenizer": T5_PRE_TOKENIZER, "added": added}
    return UnigramTokenizer([(piece, -1.0) for piece in pieces], **options)


@pytest.fixture(scope="module")
def model(tokenizer):
    config = minigpt.T5Config(tokenizer.vocab_size + 2, 6, 3, 8, 1, 2, 4)  # some rows to spare
    model = minigpt.T5(config, seed=3, dtype=np.float64)
    rng = np.random.default_rng(5)
    model.store.vector[:] = rng.standard_normal(model.num_parameters)
    model.parameters["wte.weight"][tokenizer.vocab_size :] = 0
    return model


TEXTS = ["een", "drie twee een een twee", "two", "three one", "eenx", "nl: een twee drie"]


def written_by_hand(model, tokenizer, text, most):
    """Greedy, step by step, from the logits of the whole target so far."""
    ids, new = [*tokenizer.encode(text), tokenizer.eos_id], [0]
    while len(new) <= most:
        new.append(int(model.logits(np.array([ids]), np.array([new]))[0, -1].argmax()))
        if new[-1] == tokenizer.eos_id:
            break
    return tokenizer.decode([i for i in new if i not in (0, 1, 2)])


def test_texts_are_translated_in_their_order_whatever_stands_beside_them(model, tokenizer):
    expected = [written_by_hand(model, tokenizer, text, 7) for text in TEXTS]
    assert len(set(expected)) > 2
    for rows in (1, 4, 64):
        assert translate(model, tokenizer, TEXTS, max_new_tokens=7, rows=rows) == expected
    assert translate(model, tokenizer, [], max_new_tokens=7) == []
    prefixed = [written_by_hand(model, tokenizer, f"nl: {text}", 7) for text in TEXTS]
    assert translate(model, tokenizer, TEXTS, prefix="nl: ", max_new_tokens=7) == prefixed != expected


def test_texts_of_about_one_length_come_together(model, tokenizer, monkeypatch):
    calls = []

    def generate(ids, max_new_tokens, temperature, attention_mask):
        calls.append((ids.shape, max_new_tokens, temperature, int(attention_mask.sum())))
        return np.zeros((len(ids), 1), np.int64)

    monkeypatch.setattr(model, "generate", generate)
    translate(model, tokenizer, ["een twee", "een", "drie"] * 22)
    assert calls == [((64, 3), 100, 0, 2 * 44 + 3 * 20), ((2, 3), 100, 0, 3 * 2)]
    calls.clear()
    translate(model, tokenizer, ["een twee", "een", "drie", "one", "two one one"], rows=2, max_new_tokens=9)
    assert [shape for shape, *_ in calls] == [(2, 2), (2, 3), (1, 4)]


def test_beams_reach_generate(model, tokenizer):
    ids = np.append(tokenizer.encode("drie twee"), 1)[None]
    options = {"num_beams": 3, "length_penalty": 2.0, "max_new_tokens": 5}
    expected = text_of(tokenizer, model.generate(ids, temperature=0, **options)[0])
    assert translate(model, tokenizer, ["drie twee"], **options) == [expected]


def test_what_is_written_ends_at_its_end(tokenizer):
    assert text_of(tokenizer, np.array([0, 3, 4, 1, 5, 1])) == "een twee"
    assert text_of(tokenizer, np.array([0, 3, 0, 2, 4])) == "een twee"
    assert text_of(tokenizer, np.array([0])) == ""
    assert text_of(tokenizer, np.array([5, 3, 1])) == "een"  # whatever it began with
    last = tokenizer.vocab_size - 1
    assert text_of(tokenizer, np.array([0, 3, last, last + 1, 4, last + 9, 1, last + 1])) == "eenx twee"


def test_rows_are_padded_on_the_right():
    ids, mask = padded([np.array([5, 1]), np.array([7, 8, 9, 1])], 3)
    assert ids.tolist() == [[5, 1, 3, 3], [7, 8, 9, 1]] and mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_sources_that_can_not_be_read_are_named(tokenizer):
    assert source_ids(tokenizer, "een twee").tolist() == [3, 4, 1]
    with pytest.raises(MinigptError, match="the text is empty, there is nothing to translate"):
        source_ids(tokenizer, "  ")
    with pytest.raises(MinigptError, match="the tokenizer has no token for 'vier', at position 4 of the text"):
        source_ids(tokenizer, "een vier twee vijf")
    with pytest.raises(MinigptError, match="the tokenizer has no token for '</s>', at position 0"):
        source_ids(tokenizer, "</s>")  # nobody can write a special token


def test_models_and_tokenizers_that_translate_nothing_are_named(model, tokenizer):
    gpt = minigpt.GPT(minigpt.GPTConfig(13, 8, 1, 1, 4))
    with pytest.raises(MinigptError, match="the model is a gpt, translating needs one of two stacks, such as t5"):
        translate(gpt, tokenizer, ["een"])
    with pytest.raises(MinigptError, match="the model is a gpt, translating needs one of two stacks"):
        cross_attention(gpt, tokenizer, "een", "one")
    with pytest.raises(MinigptError, match="the tokenizer has no token that fills a row"):
        translate(model, minigpt.CharTokenizer("abc"), ["a"])
    with pytest.raises(MinigptError, match="rows is 0"):
        translate(model, tokenizer, ["een"], rows=0)


def test_cross_attention_is_that_of_each_layer_and_head_at_the_tokens_said(model, tokenizer):
    weights, source, target = cross_attention(model, tokenizer, "drie twee een", "one two")
    assert source == ["▁drie", "▁twee", "▁een", "</s>"] and target == ["▁one", "▁two", "</s>"]
    assert weights.shape == (2, 4, 3, 4)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    # what is looked at as a token is said depends on the tokens before it alone
    other = cross_attention(model, tokenizer, "drie twee een", "one three").weights
    np.testing.assert_array_equal(weights[:, :, :2], other[:, :, :2])
    assert abs(weights[:, :, 2] - other[:, :, 2]).max() > 1e-3
    # and the first is said as the decoder's start token is read
    _, cache = model.forward(np.array([[5, 4, 3, 1]]), np.array([[0]]))
    first = [block.cross.weights[0, :, 0] for block in cache.decoder.blocks]
    np.testing.assert_allclose(weights[:, :, 0], first, atol=1e-14)


def test_a_text_has_one_translation(model, tokenizer):
    with pytest.raises(MinigptError, match="num_return_sequences is 2, it must be 1"):
        translate(model, tokenizer, ["een", "twee"], num_beams=3, num_return_sequences=2)
    assert len(translate(model, tokenizer, ["een"], max_new_tokens=2, num_return_sequences=1)) == 1
    with pytest.raises(MinigptError, match="texts is 'een', it must be a list of strings"):
        translate(model, tokenizer, "een")
