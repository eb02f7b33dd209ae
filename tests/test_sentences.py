"""minigpt.embed, on a small random BERT and on the real all-MiniLM-L6-v2."""

import json
from pathlib import Path

import numpy as np
import pytest

import minigpt
from minigpt import BERT, GPT, BERTConfig, CharTokenizer, GPTConfig, MinigptError, WordPieceTokenizer, embed, sentences

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
    np.testing.assert_allclose(embed(model.astype(np.float64), tokenizer, texts), exact, rtol=0, atol=1e-12)
    our_errors, their_errors = embed(model, tokenizer, texts) - exact, single - exact
    print(f"largest {abs(our_errors).max():.2e} {abs(their_errors).max():.2e}, root mean square "
          f"{(our_errors**2).mean() ** 0.5:.2e} {(their_errors**2).mean() ** 0.5:.2e}")  # fmt: skip
    assert abs(our_errors).max() <= 2 * abs(their_errors).max()
    assert (our_errors**2).mean() <= 4 * (their_errors**2).mean()


class Weighed:
    """A model whose loss is a random sum of its hidden states and of what the pooler makes of them:
    check_gradients then proves all its parameters.
    """

    def __init__(self, model):
        self.model, self.parameters, self.num_parameters = model, model.parameters, model.num_parameters

    def astype(self, dtype):
        return Weighed(self.model.astype(dtype))

    def weights(self, out):
        rng = np.random.default_rng(3)
        return out._replace(hidden=rng.standard_normal(out.hidden.shape), pooled=rng.standard_normal(out.pooled.shape))

    def loss(self, batch):
        out, _ = self.model.forward(**batch)
        r = self.weights(out)
        return (r.hidden * out.hidden).sum() + (r.pooled * out.pooled).sum()

    def loss_and_grads(self, batch):
        out, cache = self.model.forward(**batch)
        return self.loss(batch), self.model.backward(self.weights(out), cache)


@pytest.mark.slow
def test_gradients_of_minilm_by_the_complex_step(real):
    """Every parameter of the real weights, padding on, both token types."""
    model, tokenizer = real
    batch = tokenizer.batch(["To be, or not to be?", "A horse!"], ["That is the question.", "My kingdom for it!"])
    report = minigpt.check_gradients(Weighed(model), batch)
    print(report.max_error)
    assert len(report.rows) == len(model.parameters) and report.max_error < 1e-12
