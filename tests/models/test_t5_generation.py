"""T5's generate: greedy, sampled, with beams; with a cache and without, and against
`transformers`.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from lifted_casts import lift_casts

from minigpt import T5, MinigptError, T5Config, cli
from minigpt.layers import cross_attention
from minigpt.models import seq2seq
from minigpt.models.fast_seq2seq import FastT5Decoder
from minigpt.models.seq2seq import CachedTarget, UncachedTarget
from minigpt.tokenizers import CharTokenizer

V, S, START, PAD, STOP = 19, 7, 2, 3, 13
SIZES = {"vocab_size": V, "d_model": 10, "d_kv": 6, "d_ff": 14, "num_layers": 3, "num_decoder_layers": 2}
SIZES |= {"num_heads": 3, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
SIZES |= {"decoder_start_token_id": START, "pad_token_id": PAD, "eos_token_id": STOP}
VERSIONS = {
    "1.0": {},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_embeddings": False},
    "gelu": {"feed_forward_proj": "gelu", "tie_embeddings": False, "scale_decoder_outputs": True},
    "one block": {"feed_forward_proj": "gated-silu", "num_decoder_layers": 1},
}
SEARCHES = [
    {"temperature": 0},
    {"seed": 3, "top_k": 7},
    {"seed": 4, "num_return_sequences": 3},
    {"num_beams": 4, "num_return_sequences": 2},
    {"num_beams": 3, "length_penalty": 0.5, "early_stopping": True, "repetition_penalty": 1.3},
]


def small_t5(rng, version="1.0", **changes):
    """A small T5 of weights that make sharp odds, whose texts end at various steps: its stop id is
    the token that they meet so.
    """
    config = T5Config(**SIZES | VERSIONS[version] | changes)
    model = T5(config, dtype=np.float64)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    free = model.generate(rng.integers(4, V, (40, 5)), 12, temperature=0, stop=[])
    met = [[row.tolist().index(token) for row in free if token in row] for token in range(4, V)]
    stop = 4 + int(np.argmax([len(steps) * len(set(steps)) for steps in met]))
    return T5(replace(config, eos_token_id=stop), store=model.store)


def sources(rng, rows=5):
    """Sources with padding at either side and at none, and their mask."""
    ids, mask = rng.integers(4, V, (rows, S)), np.ones((rows, S), np.int64)
    mask[0, -2:] = mask[1, :3] = mask[3, 0] = mask[3, -1] = 0
    ids[mask == 0] = PAD
    return ids, mask


def by_hand(model, row, n):
    """Token after token by model.logits."""
    target = [START]
    for _ in range(n):
        target.append(int(model.logits([row], [target])[0, -1].argmax()))
        if target[-1] == model.config.eos_token_id:
            break
    return target


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_greedy_is_argmax_of_logits(version, use_cache, rng):
    """Of sources of unequal length; a text that has ended is filled up with the padding token."""
    model, rows = small_t5(rng, version), [rng.integers(4, V, n).tolist() for n in (3, 7, 1, 5, 5, 2)]
    found = model.generate(rows, 15, temperature=0, use_cache=use_cache)
    expected = [by_hand(model, row, 15) for row in rows]
    assert found.dtype == np.int64 and found.shape == (6, max(map(len, expected)))
    for row, text in zip(found, expected):
        assert row[: len(text)].tolist() == text and (row[len(text) :] == PAD).all()
    assert len(set(map(len, expected))) > 1 or version in ("1.1", "one block")
    streamed = np.stack(list(model.stream(rows, 15, temperature=0, use_cache=use_cache)), axis=1)
    np.testing.assert_array_equal(streamed, found[:, 1:])


@pytest.mark.parametrize("settings", SEARCHES, ids=str)
@pytest.mark.parametrize("version", VERSIONS)
def test_generate_with_cache_is_that_without(version, settings, rng, monkeypatch):
    """Across the growth of its buffers; padded sources are as those without padding."""
    monkeypatch.setattr(seq2seq, "ROOM", 2)
    model, (ids, mask) = small_t5(rng, version), sources(rng)
    found = model.generate(ids, 12, attention_mask=mask, **settings)
    assert (found[:, 0] == START).all()
    without = model.generate(ids, 12, attention_mask=mask, use_cache=False, **settings)
    np.testing.assert_array_equal(found, without)
    ragged = model.generate([row[keep == 1] for row, keep in zip(ids, mask)], 12, **settings)
    np.testing.assert_array_equal(found, ragged)
    np.testing.assert_array_equal(found, model.generate(ids, 12, attention_mask=mask, **settings))


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-12), (np.float32, 1e-4)])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_fast_decoders_logits_are_the_plain_ones(version, dtype, limit, rng, monkeypatch):
    """Of one source and of several, with padding and without, as rows multiply, move, and are left
    out, and as the buffers grow; and the keys and values that they leave behind.
    """
    monkeypatch.setattr(seq2seq, "ROOM", 4)
    model, (ids, mask) = small_t5(rng, version), sources(rng)
    if version == "1.1":  # scores so large that without a shift their exponentials were infinite
        model.parameters["decoder.h.1.cross.q_attn.weight"][...] *= 1000
    model = model.astype(dtype)
    for rows, padding in ((slice(0, 1), False), (slice(0, 1), True), (slice(5), True)):
        memory, _ = model.encode(ids[rows], mask[rows] == 1 if padding else None)
        given = model, memory, (mask[rows] == 1 if padding else None)
        M, fast, texts = len(memory), CachedTarget(*given), np.full((len(memory), 1), START)
        with monkeypatch.context() as patch:
            patch.setattr(T5, "fast_decoder", None)
            plain = CachedTarget(*given)
            plain(list(texts))
        uncached, fast_logits = UncachedTarget(*given), fast(list(texts))
        assert np.abs(fast_logits - uncached(list(texts))).max() <= limit * np.abs(fast_logits).max()
        for origins in (None, np.arange(M).repeat(3), None, None, np.arange(3 * M) // 3 * 3, np.arange(3 * M)[::-1] % 3
                        + np.arange(3 * M) // 3 * 3, None, np.arange(3), None, None):  # fmt: skip
            texts = texts if origins is None else texts[origins]
            texts = np.append(texts, rng.integers(0, V, (len(texts), 1)), axis=1)
            logits, expected = (target(list(texts), origins) for target in (fast, uncached))
            assert logits.dtype == dtype and logits.shape == (len(texts), V)
            assert np.abs(logits - expected).max() <= limit * np.abs(expected).max()
            with monkeypatch.context() as patch:
                patch.setattr(T5, "fast_decoder", None)
                plain(list(texts), origins)
            for ours, theirs in zip(fast.state.kv, plain.state.kv, strict=True):
                for one, other in zip(ours.filled(), theirs.filled()):
                    np.testing.assert_allclose(one, other, rtol=limit, atol=limit * 10)
        assert fast.state.room == 16 and type(fast.next_logits) is FastT5Decoder is not type(plain.next_logits)


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_source_is_read_once_and_its_keys_are_shared_by_beams(use_cache, rng, monkeypatch):
    """One pass of the encoder; with a cache one product for the memory's keys and values a block,
    and as many rows of them as texts that are not closed.
    """
    model, (ids, _), passes, read = small_t5(rng), sources(rng, rows=6), [], []
    encode, apart = model.encode, cross_attention.apart
    monkeypatch.setattr(model, "encode", lambda *args, **kwargs: passes.append(1) or encode(*args, **kwargs))
    monkeypatch.setattr(cross_attention, "apart", lambda y, rows: read.append((len(y), rows)) or apart(y, rows))
    monkeypatch.setattr(T5, "fast_decoder", None, raising=False)
    model.generate(ids, 9, num_beams=4, early_stopping=True, use_cache=use_cache)
    assert len(passes) == 1 and read[0] == (6, 6)
    assert all(rows == (4 if use_cache else 1) * texts for texts, rows in read[2:])
    assert len(set(read)) > 2  # texts that are closed are left out


def test_samples_repeat_with_the_seed_and_stop_can_be_changed(rng):
    model, (ids, mask) = small_t5(rng), sources(rng)
    first = model.generate(ids, 20, seed=5, attention_mask=mask)
    np.testing.assert_array_equal(first, model.generate(ids, 20, seed=np.random.default_rng(5), attention_mask=mask))
    other = model.generate(ids, 20, seed=6, attention_mask=mask)
    assert (first[:, : other.shape[1]] != other[:, : first.shape[1]]).any()
    for beams in (1, 3):
        free = model.generate(ids, 20, temperature=0, stop=[], attention_mask=mask, num_beams=beams)
        assert free.shape == (5, 21)
        for stop in ([5, model.config.eos_token_id], model.config.eos_token_id):
            stopped = model.generate(ids, 20, temperature=0, stop=stop, attention_mask=mask, num_beams=beams)
            for row in stopped:
                ends = np.flatnonzero(np.isin(row, stop))
                assert len(ends) == 0 or set(row[ends[0] + 1 :]) <= {PAD}
    first = list(itertools.islice(model.stream(ids, 10**9, stop=[]), 3))
    np.testing.assert_array_equal(np.stack(first, axis=1), model.generate(ids, 3, stop=[])[:, 1:])
    np.testing.assert_array_equal(model.generate(ids, 0), np.full((5, 1), START))


@pytest.mark.parametrize("pad", [PAD, 0])
def test_beams_are_filled_up_as_transformers_does(pad, rng):
    model, (ids, mask) = small_t5(rng, pad_token_id=pad), sources(rng, rows=9)
    found = model.generate(ids, 12, num_beams=3, early_stopping=True, attention_mask=mask)
    stop = model.config.eos_token_id
    tails = [row[row.tolist().index(stop) + 1 :] for row in found if stop in row]
    assert any(map(len, tails)) and all((tail == (pad or stop)).all() for tail in tails)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ids": None}, "ids are missing: a decoder reads what the encoder makes of them"),
        ({"ids": []}, "ids: shape is (0,), sources must be (batch, time)"),
        ({"ids": [[1], []]}, "the source is empty, it must have at least 1 token"),
        ({"ids": [[1], [V]]}, f"source: value {V} at (0, 0) is out of range, it must be 0 to {V - 1}"),
        ({"attention_mask": [[1, 1], [0, 0]]}, "attention_mask: row 1 is padding alone, a source needs at least 1"),
        ({"attention_mask": [[1, 1]]}, "attention_mask: shape is (1, 2), that of ids is (2, 2)"),
        ({"stop": [3, V]}, f"stop is {V}, token ids are 0 to {V - 1}"),
        ({"num_beams": 2, "stop": V}, f"stop is {V}, token ids are 0 to {V - 1}"),
        ({"num_beams": 0}, "num_beams is 0, it must be a whole number of at least 1"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences is 3, it must be at most num_beams"),
        ({"num_beams": 2, "top_p": 0.5}, "top_p is 0.5, but num_beams is 2: beam search draws no tokens"),
        ({"num_beams": 2, "max_new_tokens": 0}, "max_new_tokens is 0, it must be a whole number of at least 1"),
        ({"repetition_penalty": -1}, "repetition_penalty is -1, it must be more than 0"),
    ],
    ids=str,
)
def test_generate_error(settings, message, rng):
    with pytest.raises(MinigptError) as error:
        small_t5(rng).generate(**{"ids": [[4, 5], [6, 7]], "max_new_tokens": 3} | settings)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_commands_that_continue_a_text_name_those_for_two_stacks(tmp_path, capsys, rng):
    small_t5(rng).save(tmp_path, CharTokenizer(list("abcdefghijklmnopqrs")))
    for command in ("generate", "eval"):
        assert cli.main([command, "--model", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "a t5 writes one text from another (minigpt translate, minigpt fill), it continues none" in error
        assert error.count("\n") == 1


@pytest.fixture
def oracle(monkeypatch):
    """The module that needs PyTorch and transformers, whose casts to float32 are lifted."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import t5_oracle
    from test_beam_generation import CASTS
    from transformers.generation import utils
    from transformers.models.t5 import modeling_t5

    torch.set_num_threads(1)
    lift_casts(monkeypatch, utils, *CASTS)
    lift_casts(monkeypatch, modeling_t5, *t5_oracle.CASTS)
    return t5_oracle


@pytest.mark.parity
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("version", "pad"), [("1.0", 0), ("1.1", PAD)])
def test_t5_beams_equal_transformers(version, pad, length_penalty, early_stopping, rng, oracle):
    """Whole arrays: how they begin, end and are filled up as well. Encoders of more blocks than
    decoders: its cache counts the encoder's.
    """
    settings, lengths = {"length_penalty": length_penalty, "early_stopping": early_stopping}, set()
    names = {"pad_token_id": pad, "eos_token_id": STOP, "decoder_start_token_id": START}
    theirs, ours = oracle.make_pair(rng, num_layers=3, num_decoder_layers=2, **names, **VERSIONS[version])
    for n, penalty in ((1, 1.0), (4, 1.0), (4, 1.3)):
        ids, mask = sources(rng)
        asked = settings | {"num_beams": 4, "num_return_sequences": n, "repetition_penalty": penalty}
        found = ours.generate(ids, 12, attention_mask=mask, **asked)
        np.testing.assert_array_equal(found, their_text(oracle, theirs, ids, mask, 12, **names, **asked))
        lengths |= {len(row[: row.tolist().index(STOP)]) if STOP in row else 13 for row in found}
    assert len(lengths) > 1 or length_penalty == 2


@pytest.mark.parity
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_t5_greedy_equals_transformers(version, rng, oracle):
    names = {"pad_token_id": PAD, "eos_token_id": STOP, "decoder_start_token_id": START}
    theirs, ours = oracle.make_pair(rng, num_layers=3, num_decoder_layers=2, **names, **VERSIONS[version])
    ids, mask = sources(rng, rows=9)
    for penalty in (1.0, 1.4):
        found = ours.generate(ids, 15, temperature=0, attention_mask=mask, repetition_penalty=penalty)
        expected = their_text(oracle, theirs, ids, mask, 15, **names, repetition_penalty=penalty)
        np.testing.assert_array_equal(found, expected)


def their_text(oracle, theirs, ids, mask, new, **settings):
    torch = oracle.torch
    with torch.inference_mode():
        given = {"max_new_tokens": new, "do_sample": False} | settings
        return theirs.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), **given).numpy()
