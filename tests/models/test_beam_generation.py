"""generate with beams and with repetition_penalty, of causal families: with a cache and without,
and against `transformers`.
"""

import itertools

import numpy as np
import pytest
from lifted_casts import lift_casts
from small_gpt import small_gpt

import minigpt
from minigpt import GPTNeo, GPTNeoConfig, MinigptError
from minigpt.beams import Beams, beam_search
from minigpt.models.fast_decoding import FastDecoder
from minigpt.models.generation import CachedLogits
from minigpt.sampling import token_probabilities

V = 17
SIZES = {"vocab_size": V, "std": 0.6, "bias": False, "tie_embeddings": False}
KINDS = {
    "gpt": {},
    "rotary": {"positions": "rotary", "qk_norm": True},
    "smear": {"positions": "learned", "smear": True},
    "gpt_neo": None,
}
# what the oracle computes in float32 on the way to a choice
CASTS = (
    "to(copy=True, dtype=torch.float32, device=input_ids.device)",
    "torch.zeros((batch_size, num_beams), dtype=torch.float, device=input_ids.device)",
    "fill_value=-1e9, dtype=torch.float, device=input_ids.device",
)


def small_model(kind, rng, block_size=8):
    """A small decoder of weights that make sharp odds."""
    if kind != "gpt_neo":
        return small_gpt(rng, block_size=block_size, **SIZES | KINDS[kind])
    model = GPTNeo(GPTNeoConfig(V, block_size, 12, 2, 3, window_size=4), dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    return model


def as_lists(rows):
    return [row.tolist() for row in rows]


@pytest.mark.parametrize("block_size", [5, 8, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_beams_with_cache_are_those_without(kind, block_size, rng, monkeypatch):
    """Of prompts of unequal lengths, from short to far past the window, that end at various steps;
    and each as if alone.
    """
    model, prompts = small_model(kind, rng, block_size), [rng.integers(0, V, n) for n in (3, 1, 7)]
    settings = {
        "num_beams": 4, "num_return_sequences": 3, "stop": [3, 5, 9], "length_penalty": 0.5, "repetition_penalty": 1.2,
    }  # fmt: skip
    found = model.generate(prompts, 21, use_cache=False, **settings)
    assert as_lists(model.generate(prompts, 21, **settings)) == as_lists(found) and len(found) == 9
    monkeypatch.setattr(type(model), "fast_decoder", None)
    assert as_lists(model.generate(prompts, 21, **settings)) == as_lists(found)
    for i, prompt in enumerate(prompts):
        alone = model.generate(prompt[None], 21, **settings)
        for row, one in zip(found[3 * i : 3 * i + 3], alone):
            assert row[: len(one)].tolist() == one.tolist() and set(row[len(one) :]) <= {row[-1]}


def test_cached_beams_compute_one_token_a_step(rng, monkeypatch):
    """But for the prompts, and where the longest text is closed: the others are then written anew,
    without the columns that were padding for its sake.
    """
    model, widths, longest = small_model("gpt", rng, 40), [], []
    decode, ask = FastDecoder.__call__, CachedLogits.__call__

    def count(self, ids, **kwargs):
        widths.append(ids.shape[1])
        return decode(self, ids, **kwargs)

    def measure(self, rows, origins=None):
        longest.append(max(map(len, rows)) - len(longest))
        return ask(self, rows, origins)

    monkeypatch.setattr(FastDecoder, "__call__", count)
    monkeypatch.setattr(CachedLogits, "__call__", measure)
    for lengths in ((7, 2, 3, 6), (4, 4, 4), (5, 6)):
        for stop in range(V):
            widths.clear(), longest.clear()
            prompts = [rng.integers(0, V, n) for n in lengths]
            model.generate(prompts, 12, num_beams=2, stop=[stop, 5], early_stopping=True)
            anew = [before != now for before, now in itertools.pairwise([0, *longest])]
            assert [width > 1 for width in widths] == anew


def test_beams_scores_are_the_models_own(rng):
    model, ids = small_model("gpt", rng, 40), rng.integers(0, V, (2, 3))
    found = beam_search(CachedLogits(model), list(ids), 9, Beams(4, 2.0, stop=2, num_return_sequences=4))
    for prompt, of_text in zip(ids, found):
        for score, new in of_text:
            text = np.append(prompt, new)
            log_p = np.log(token_probabilities(model.logits(text[None])[0]))
            assert score == pytest.approx(log_p[np.arange(2, len(text) - 1), new].sum() / len(new) ** 2, rel=1e-12)


def test_beams_keep_the_form_of_the_prompts(rng):
    model, ids, mask = small_model("gpt", rng), rng.integers(0, V, (2, 5)), np.ones((2, 5), int)
    mask[0, :2] = 0
    padded = model.generate(ids, 4, num_beams=2, attention_mask=mask, num_return_sequences=2)
    assert padded.shape == (4, 9) and padded.dtype == np.int64
    np.testing.assert_array_equal(padded[:, :5], ids[[0, 0, 1, 1]])
    ragged = model.generate([ids[0, 2:].tolist(), ids[1].tolist()], 4, num_beams=2, num_return_sequences=2)
    assert [row[-4:].tolist() for row in ragged] == padded[:, 5:].tolist() and [len(r) for r in ragged] == [7, 7, 9, 9]
    again = model.generate(ids, 4, num_beams=2, temperature=0, seed=5, attention_mask=mask, num_return_sequences=2)
    np.testing.assert_array_equal(again, padded)


def test_beams_find_texts_that_greedy_misses(rng):
    model, ids = small_model("gpt", rng, 40), rng.integers(0, V, (20, 2))

    def total(rows):
        log_p = np.log([token_probabilities(row) for row in model.logits(rows)])
        return np.take_along_axis(log_p[:, 1:-1], rows[:, 2:, None], axis=-1).sum(axis=(1, 2))

    greedy, beams = (total(model.generate(ids, 8, temperature=0, num_beams=k)) for k in (1, 4))
    assert (beams > greedy + 0.1).sum() > 5 and (beams >= greedy - 1e-9).mean() > 0.8


def test_several_samples_of_a_prompt_are_drawn_apart(rng):
    model, ids, mask = small_model("gpt", rng), rng.integers(0, V, (2, 3)), np.array([[0, 1, 1], [1, 1, 1]])
    rows = model.generate(ids, 12, num_return_sequences=3, seed=4, attention_mask=mask)
    assert rows.shape == (6, 15) and len(np.unique(rows[:3], axis=0)) == 3
    np.testing.assert_array_equal(rows[:, :3], ids.repeat(3, axis=0))
    again = model.generate(ids.repeat(3, axis=0), 12, seed=4, attention_mask=mask.repeat(3, axis=0))
    np.testing.assert_array_equal(rows, again)


@pytest.mark.parametrize("use_cache", [True, False])
def test_repetition_penalty_changes_logits_of_tokens_that_are_there(use_cache, rng):
    """Of the prompt and of what was written, in texts that are drawn; with beams it acts on log p,
    which is negative, so that a huge one leaves no token twice. 1 changes nothing.
    """
    model, ids, found = small_model("gpt", rng, 40), np.array([[1, 2, 3], [4, 4, 4]]), []
    for row in ids.tolist():
        for _ in range(9):
            logits = model.logits([row])[0, -1]
            for token in set(row):
                logits[token] *= 1.6 if logits[token] < 0 else 1 / 1.6
            row.append(int(logits.argmax()))
        found.append(row)
    rows = model.generate(ids, 9, temperature=0, repetition_penalty=1.6, use_cache=use_cache)
    assert rows.tolist() == found != model.generate(ids, 9, temperature=0).tolist()
    streamed = model.stream(ids, 9, temperature=0, repetition_penalty=1.6, use_cache=use_cache)
    np.testing.assert_array_equal(np.stack(list(streamed), axis=1), rows[:, 3:])
    for settings in ({"seed": 2}, {"num_beams": 3}):
        plain = model.generate(ids, 9, **settings)
        np.testing.assert_array_equal(model.generate(ids, 9, repetition_penalty=1, **settings), plain)
        assert (model.generate(ids, 9, repetition_penalty=1.6, **settings) != plain).any()
    rows = model.generate(ids, 9, num_beams=3, repetition_penalty=1e30, use_cache=use_cache)
    assert [len(set(row)) for row in rows.tolist()] == [12, 10]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, "num_beams is 0, it must be a whole number of at least 1"),
        ({"num_beams": 3, "num_return_sequences": 4}, "num_return_sequences is 4, it must be at most num_beams, which"),
        ({"temperature": 0, "num_return_sequences": 2}, "num_return_sequences is 2, it must be 1 where temperature is"),
        ({"num_beams": 2, "length_penalty": np.inf}, "length_penalty is inf, it must be a number"),
        ({"num_beams": 2, "early_stopping": "yes"}, "early_stopping is 'yes', it must be one of False, True, never"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0, it must be more than 0"),
        ({"repetition_penalty": -1.5, "num_beams": 2}, "repetition_penalty is -1.5, it must be more than 0"),
        ({"repetition_penalty": np.nan}, "repetition_penalty is nan, it must be a number"),
        ({"num_beams": 2, "temperature": 0.8}, "temperature is 0.8, but num_beams is 2: beam search draws no tokens"),
        ({"num_beams": 2, "top_k": 3}, "top_k is 3, but num_beams is 2: beam search draws no tokens"),
        ({"num_beams": 2, "top_p": 0.9}, "top_p is 0.9, but num_beams is 2: beam search draws no tokens"),
        ({"num_beams": 2, "stop": [3, V]}, f"stop is {V}, token ids are 0 to {V - 1}"),
        ({"num_beams": 2, "max_new_tokens": 0}, "max_new_tokens is 0, it must be a whole number of at least 1"),
        ({"num_beams": 2, "ids": [[1], []]}, "the prompt is empty, it must have at least 1 token"),
    ],
    ids=str,
)
def test_beams_error(settings, message):
    with pytest.raises(MinigptError) as error:
        small_model("gpt", np.random.default_rng(0)).generate(**{"ids": [[1, 2]], "max_new_tokens": 3} | settings)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.fixture
def oracle(monkeypatch, tmp_path):
    """A function of a model to transformers' of the same weights, both in float64, whose casts are
    lifted.
    """
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from transformers.generation import utils
    from transformers.models.gpt_neo import modeling_gpt_neo

    torch.set_num_threads(1)
    lift_casts(monkeypatch, utils, *CASTS)
    lift_casts(monkeypatch, modeling_gpt_neo, "query = query.to(torch.float32)", "key = key.to(torch.float32)")

    def load(model):
        minigpt.to_huggingface(model, tmp_path)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()

        def generate(ids, new, mask=None, **settings):
            mask = torch.ones(np.shape(ids), dtype=torch.int64) if mask is None else torch.tensor(mask)
            given = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0} | settings
            with torch.inference_mode():
                return theirs.generate(torch.tensor(ids), attention_mask=mask, **given).numpy()

        return generate

    return load


def until_end(row, stops):
    """New ids up to the first stop id: what follows is filled up, there with one id, here with the
    one that the row met.
    """
    ends = np.isin(row, stops)
    return row[: ends.argmax() + 1].tolist() if ends.any() else row.tolist()


@pytest.mark.parity
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.5, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("kind", ["gpt", "gpt_neo"])
def test_beams_equal_transformers(kind, length_penalty, early_stopping, rng, oracle):
    model, lengths = small_model(kind, rng, 40), set()
    theirs, settings = oracle(model), {"length_penalty": length_penalty, "early_stopping": early_stopping}
    for n, stops, penalty in ((1, [3], 1.0), (4, [3, 5], 1.3), (4, [], 1.0)):
        ids = rng.integers(6, V, (4, 4))
        asked = settings | {"num_beams": 4, "num_return_sequences": n, "repetition_penalty": penalty}
        ours = model.generate(ids, 12, stop=stops, **asked)
        expected = theirs(ids, 12, eos_token_id=stops or None, **asked)
        assert ours.shape == expected.shape == (4 * n, ours.shape[1])
        if len(stops) < 2:
            np.testing.assert_array_equal(ours, expected)
        for row, other in zip(ours[:, 4:], expected[:, 4:]):
            assert until_end(row, stops) == until_end(other, stops)
            lengths.add(len(until_end(row, stops)))
    assert len(lengths) > 1 or length_penalty == 2


@pytest.mark.parity
@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("kind", ["gpt", "gpt_neo"])
def test_padded_prompts_equal_transformers(kind, num_beams, rng, oracle):
    """Prompts of unequal length, which it wants padded at the left, greedy and with beams. A
    penalty of repetition counts its padding as a token there, and not here: none is given.
    """
    model, mask = small_model(kind, rng, 40), np.ones((5, 6), np.int64)
    ids = rng.integers(6, V, (5, 6))
    for row, padding in enumerate((0, 3, 1, 5, 0)):
        mask[row, :padding] = ids[row, :padding] = 0
    ours = model.generate(ids, 20, stop=3, attention_mask=mask, num_beams=num_beams, temperature=0)
    ragged = model.generate([r[m == 1] for r, m in zip(ids, mask)], 20, stop=3, num_beams=num_beams, temperature=0)
    expected = oracle(model)(ids, 20, mask, eos_token_id=3, num_beams=num_beams)
    for row, one, other in zip(ours, ragged, expected):
        assert until_end(row[6:], [3]) == until_end(one[-(len(row) - 6) :], [3]) == until_end(other[6:], [3])


@pytest.mark.parity
@pytest.mark.parametrize("penalty", [1.0, 1.3, 0.7])
def test_greedy_with_a_penalty_equals_transformers(penalty, rng, oracle):
    model, ids = small_model("gpt", rng, 40), rng.integers(0, V, (6, 5))
    ours = model.generate(ids, 30, temperature=0, repetition_penalty=penalty)
    np.testing.assert_array_equal(ours, oracle(model)(ids, 30, eos_token_id=None, repetition_penalty=penalty))
