import numpy as np
import pytest
from pieces import Pieces

from minigpt import MinigptError
from minigpt.data import TextPairs
from minigpt.objectives import Pairs


class Ended(Pieces):
    eos_id = Pieces.sep_id


TOKENIZER = Ended([f"s{i}" for i in range(90)] + [f"t{i}" for i in range(90)])
PAD, EOS = TOKENIZER.pad_id, TOKENIZER.eos_id


def text(side, rng, n):
    return " ".join(f"{side}{i}" for i in rng.integers(0, 90, n))


@pytest.fixture
def texts(rng):
    """Pairs of a source of 1 to 19 words and a target of about half as many, all different."""
    lengths = rng.integers(0, 19, 60)
    return [
        (f"s{i} {text('s', rng, n)}".strip(), f"t{i} {text('t', rng, n // 2)}".strip()) for i, n in enumerate(lengths)
    ]


@pytest.fixture
def pairs(texts):
    return TextPairs.of(texts, TOKENIZER)


def spelt(ids):
    return " ".join(TOKENIZER.id_to_token(i) for i in ids)


def texts_of(batch):
    """(source, target) of each row of a batch, whose form is checked on the way."""
    assert {name: value.dtype for name, value in batch.items()} == dict.fromkeys(batch, np.dtype(np.int64))
    found = []
    for ids, mask, reads, reads_mask, says in zip(*(batch[name] for name in batch), strict=True):
        S, T = mask.sum(), reads_mask.sum()
        assert (mask == (np.arange(len(ids)) < S)).all() and (reads_mask == (np.arange(len(reads)) < T)).all()
        assert ids[S - 1] == says[T - 1] == EOS and (ids[S:] == PAD).all() and (says[T:] == -100).all()
        assert reads[0] == PAD and (reads[1:T] == says[: T - 1]).all()
        found.append((spelt(ids[: S - 1]), spelt(says[: T - 1])))
    for mask in ("attention_mask", "decoder_attention_mask"):
        assert batch[mask].sum(axis=1).max() == batch[mask].shape[1]  # no more padding than there must be
    return found


def test_batches_hold_both_texts_to_their_ends(rng, texts, pairs):
    batch = Pairs(TOKENIZER, 20).draw(pairs, 40, rng)
    assert list(batch) == ["ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "targets"]
    assert batch.rows == 40 and set(texts_of(batch)) <= set(texts)
    assert batch.counts == {"targets": batch["decoder_attention_mask"].sum()}
    rows = [row for part in batch.split(3) for row in zip(part["ids"].tolist(), part["targets"].tolist())]
    assert rows == list(zip(batch["ids"].tolist(), batch["targets"].tolist()))


def test_equal_generators_draw_equal_batches(pairs):
    for pool in (1, 4):
        a, b, c = (Pairs(TOKENIZER, 20, pool=pool).draw(pairs, 9, np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert all((a[name] == b[name]).all() for name in a)
        assert texts_of(a) != texts_of(c)


@pytest.mark.parametrize("pool", [1, 5])
def test_every_pair_is_drawn_as_often_as_any_other(rng, texts, pairs, pool):
    objective, counts = Pairs(TOKENIZER, 20, pool=pool), dict.fromkeys(texts, 0)
    for _ in range(600):
        for pair in texts_of(objective.draw(pairs, 10, rng)):
            counts[pair] += 1
    assert np.mean(list(counts.values())) == 100
    assert min(counts.values()) > 60 and max(counts.values()) < 145  # standard deviation 10


def test_rows_of_a_batch_are_about_as_long_where_a_pool_is_drawn(rng, pairs):
    def padding(pool):
        batches = [Pairs(TOKENIZER, 20, pool=pool).draw(pairs, 8, rng) for _ in range(60)]
        masks = [batch[name] for batch in batches for name in ("attention_mask", "decoder_attention_mask")]
        return 1 - sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)

    assert padding(8) < 0.5 * padding(1)


def test_walk_has_each_pair_once_the_longest_first(texts, pairs):
    first, again = (list(Pairs(TOKENIZER, 20, pool=pool).walk(pairs, 8)) for pool in (1, 3))
    assert [batch.rows for batch in first] == [8] * 7 + [4]
    assert all((a[name] == b[name]).all() for a, b in zip(first, again, strict=True) for name in a)
    walked = [pair for batch in first for pair in texts_of(batch)]
    assert sorted(walked) == sorted(texts)
    lengths = [len(source.split()) + len(target.split()) for source, target in walked]
    assert lengths == sorted(lengths, reverse=True)


def test_text_pairs_keep_their_texts_end_to_end(texts, pairs):
    assert len(pairs) == 60 and pairs.sources.dtype == pairs.targets.dtype == np.uint8
    for i, (source, target) in enumerate(texts):
        assert spelt(pairs.sources[pairs.source_starts[i] :][: pairs.source_lengths[i]]) == f"{source} [SEP]"
        assert spelt(pairs.targets[pairs.target_starts[i] :][: pairs.target_lengths[i]]) == f"{target} [SEP]"
    for wrong in (("one", "two", "three"), "ab", ("one", 2), None):
        with pytest.raises(MinigptError, match=r"pair 1 is .*, it must be a source and a target, two texts"):
            TextPairs.of([("s1", "t1"), wrong], TOKENIZER)
    endless = type("Endless", (Ended,), {"eos_id": None})([])
    with pytest.raises(MinigptError, match="no token that ends a text"):
        TextPairs.of([("s1", "s1")], endless)


def test_pairs_that_do_not_fit_are_named(pairs):
    objective, size = Pairs(TOKENIZER, 20), TOKENIZER.vocab_size
    objective.check(pairs, size)
    with pytest.raises(MinigptError, match="training text: there is no pair of texts"):
        objective.check(TextPairs.of([], TOKENIZER), size, "training text")
    for side in range(2):
        name, texts = ("source", "target")[side], ["s1 s2", "t1"]
        texts[side] = " "
        with pytest.raises(MinigptError, match=f"book: the {name} of pair 1 is empty"):
            objective.check(TextPairs.of([("s1", "t1"), texts], TOKENIZER), size, "book")
        texts[side] = "s1 " * 5
        long = TextPairs.of([("s1", "t1"), ("s1", "t1"), texts], TOKENIZER)
        lengths = [(5, 6), (6, 5)][side]
        Pairs(TOKENIZER, 6).check(long, size)
        with pytest.raises(MinigptError, match=f"the {name} of pair 2 has 6 tokens with its end, {name} length is 5"):
            Pairs(TOKENIZER, *lengths).check(long, size)
    with pytest.raises(MinigptError, match=r"pairs: token id \d+, the model's vocab_size is 50"):
        objective.check(pairs, 50)
    low = TextPairs.of([("s1", "s2")], TOKENIZER)
    with pytest.raises(MinigptError, match="the tokenizer has 185 tokens, the model's vocab_size is 99"):
        objective.check(low, 99)
    with pytest.raises(MinigptError, match="source length is 1, it must be a whole number of at least 2"):
        Pairs(TOKENIZER, 1)
    with pytest.raises(MinigptError, match="target length is 1"):
        Pairs(TOKENIZER, 9, 1)
    with pytest.raises(MinigptError, match="pool is 0"):
        Pairs(TOKENIZER, pool=0)
    with pytest.raises(MinigptError, match="the tokenizer has no token that ends a text, such as </s>"):
        Pairs(type("Endless", (Ended,), {"eos_id": None})([]))


def test_what_a_run_keeps():
    objective = Pairs(TOKENIZER, 12, 9, pool=3)
    assert objective.settings == {"objective": "pairs", "source_length": 12, "target_length": 9, "pool": 3}
    assert objective.length == 21 and objective.at(0.3) is objective and not objective.terms
    assert Pairs(TOKENIZER, 7).length == 14


def test_show_says_who_reads_and_says_what():
    shown = Pairs(TOKENIZER).show("s3 s4", "t7")
    assert [line.split(maxsplit=1)[0] for line in shown.splitlines()] == ["source", "decoder", "decoder"]
    assert [line[15:] for line in shown.splitlines()] == ["s3 s4 [SEP]", "[PAD] t7", "t7 [SEP]"]
    with pytest.raises(MinigptError, match="a text of the pair is empty"):
        Pairs(TOKENIZER).show("s3", " ")
