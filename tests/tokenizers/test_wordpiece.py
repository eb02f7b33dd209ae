import copy
import doctest
import hashlib
import json
import pickle
import threading
import time

import numpy as np
import pytest
from code_points import some_code_points
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_oracle import tokenizers_oracle

import minigpt
from minigpt import MinigptError, WordPieceTokenizer
from minigpt.data.packages import package_files
from minigpt.sentences import MINILM_FILES, MINILM_PACKAGE
from minigpt.tokenizers import AddedToken, wordpiece, wordpiece_training
from minigpt.tokenizers.basic import Basic
from minigpt.tokenizers.templates import bert_template
from minigpt.tokenizers.wordpiece_training import SPECIAL

PIECES = [
    *SPECIAL,
    "un",
    "una",
    "##ff",
    "##ffa",
    "##ble",
    "##able",
    "the",
    "##e",
    "ecole",
    ".",
    "'",
    "#",
    "中",
    "«",
    "do",
    "not",
]
VOCAB_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"  # of BERT's vocab.txt
VOCAB = {piece: i for i, piece in enumerate(PIECES)}
ADDED = [AddedToken(token, i) for i, token in enumerate(SPECIAL)]
AROUND = bert_template(("[CLS]", 2), ("[SEP]", 3))
TOKENIZER = WordPieceTokenizer(VOCAB, added=ADDED, post_processor=AROUND)
TEXT = (
    """The quick brown fox jumps over the lazy dog. It's the fox's way: quickly, over hedges and dogs!
De snelle bruine vos springt over de luie hond; café, École, Ångström. 中文 テスト Добрый день, Σίσυφος. """
    * 3
)
TRAINED = WordPieceTokenizer.train(TEXT, 150)


def test_module_examples():
    assert doctest.testmod(wordpiece).failed == doctest.testmod(wordpiece_training).failed == 0


# Text to ids


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("unaffable", ["una", "##ffa", "##ble"]),
        ("UNA una", ["una", "una"]),
        ("unaffe", ["una", "##ff", "##e"]),
        ("unaff!", ["una", "##ff", "[UNK]"]),
        ("unable", ["una", "##ble"]),
        ("unaable", ["una", "##able"]),
        ("untheble", ["[UNK]"]),  # the parts are there, but not as parts of a word
        ("thee", ["the", "##e"]),
        ("ffable", ["[UNK]"]),  # a word does not begin with a piece that goes on
        ("##ff", ["#", "#", "[UNK]"]),
        ("École.中the", ["ecole", ".", "中", "the"]),
        ("«the«", ["«", "the", "«"]),
        ("[MASK] [cls]", ["[UNK]"] * 6),
    ],
)
def test_tokens(text, tokens):
    assert TOKENIZER.tokens(text) == tokens
    assert TOKENIZER.encode(text).tolist() == [VOCAB[token] for token in tokens]


def test_special_tokens():
    text = "the [MASK] [mask][SEP]"
    unknown = ["[UNK]"] * 3
    assert TOKENIZER.tokens(text, True) == ["[CLS]", "the", "[MASK]", *unknown, "[SEP]", "[SEP]"]
    assert TOKENIZER.tokens(text) == ["the", *unknown * 3]
    roles = [TOKENIZER.pad_id, TOKENIZER.unk_id, TOKENIZER.cls_id, TOKENIZER.sep_id, TOKENIZER.mask_id]
    assert roles == TOKENIZER.special_ids.tolist() == [0, 1, 2, 3, 4] and TOKENIZER.bos_id is TOKENIZER.eos_id is None


def test_continues_are_the_pieces_that_go_on():
    assert [PIECES[i] for i in np.flatnonzero(TOKENIZER.continues)] == ["##ff", "##ffa", "##ble", "##able", "##e"]
    with pytest.raises(ValueError, match="read-only"):
        TOKENIZER.continues[0] = True


def test_ids_are_the_callers_own():
    ids = TOKENIZER.encode("the the")
    ids[:] = 0
    assert ids.dtype == np.int64 and TOKENIZER.tokens("the the") == ["the", "the"]


def test_a_word_may_have_so_many_characters():
    vocab = {"[UNK]": 0, "a": 1, "##a": 2}
    tokenizer = WordPieceTokenizer(vocab)
    assert tokenizer.encode("a" * 100).tolist() == [1] + [2] * 99
    assert tokenizer.encode("a" * 101).tolist() == [0]
    assert tokenizer.encode("á" * 100).tolist() == [1] + [2] * 99
    assert WordPieceTokenizer(vocab, max_input_chars_per_word=2).tokens("aa aaa") == ["a", "##a", "[UNK]"]
    assert WordPieceTokenizer(vocab, max_input_chars_per_word=0).tokens("a") == ["[UNK]"]


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("the\tunaffable", [(0, 3), (4, 7), (7, 10), (10, 13)]),
        ("École", [(0, 5)]),
        ("E\u0301cole\u0301 x", [(0, 6), (8, 9)]),
        ("\0t\u200bhe!", [(1, 5), (5, 6)]),
        ("中«the«", [(0, 1), (1, 2), (2, 5), (5, 6)]),
        ("unknown☃", [(0, 8)]),
        ("\u0301", []),
    ],
)
def test_offsets(text, offsets):
    assert [tuple(span) for span in TOKENIZER.encoding(text, special=False).offsets.tolist()] == offsets


def test_pair():
    encoding = TOKENIZER.encoding("the unaffable", "the.")
    tokens = [PIECES[i] for i in encoding.ids]
    assert tokens == ["[CLS]", "the", "una", "##ffa", "##ble", "[SEP]", "the", ".", "[SEP]"]
    assert encoding.token_type_ids.tolist() == [0] * 6 + [1] * 3
    assert encoding.offsets[6:8].tolist() == [[0, 3], [3, 4]]
    short = TOKENIZER.encoding("the unaffable", "the.", max_length=7).ids
    assert [PIECES[i] for i in short] == ["[CLS]", "the", "una", "[SEP]", "the", ".", "[SEP]"]


# Ids to text


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([], ""),
        (["una", "##ffa", "##ble", "the"], "unaffable the"),
        (["##ff", "##ff"], "##ffff"),  # a piece that goes on with nothing is shown as it is
        (["[CLS]", "the", ".", "[SEP]"], "[CLS] the. [SEP]"),
        (["do", "not"], "do not"),
        (["the", "'", "the"], "the ' the"),
    ],
)
def test_decode(tokens, text):
    ids = [VOCAB[token] for token in tokens]
    assert TOKENIZER.decode(ids) == text
    stream = TOKENIZER.stream()
    assert "".join(stream.push([i]) for i in ids) + stream.push([]) + stream.end() == text
    stream = TOKENIZER.stream()
    assert stream.push([]) + stream.push(ids) == text


def test_decode_without_special_tokens_and_without_cleanup():
    ids = [VOCAB[token] for token in ("[CLS]", "una", "##ff", ".", "[SEP]")]
    assert TOKENIZER.decode(ids, skip_special=True) == "unaff."
    assert WordPieceTokenizer(VOCAB, cleanup=False).decode(ids[1:4]) == "unaff ."
    assert WordPieceTokenizer(VOCAB, cleanup=None).decode(ids[1:4]) == "una ##ff ."


@pytest.mark.parametrize("wrong", [-1, len(PIECES)])
def test_id_out_of_range(wrong):
    for decode in (TOKENIZER.decode, TOKENIZER.stream().push):
        with pytest.raises(MinigptError, match=f"token id {wrong} is out of range"):
            decode([0, wrong])


# What it may not do


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_no_text_is_lost(text):
    """Each character that is not removed by normalising is covered by a token."""
    encoding = TRAINED.encoding(text, special=False)
    assert encoding.ids.tolist() == TRAINED.encode(text).tolist()
    covered = np.zeros(len(text), bool)
    for start, end in encoding.offsets:
        assert start < end
        covered[start:end] = True
    for i in np.flatnonzero(~covered):
        assert TRAINED.normalize(text[i]).strip() == ""


def test_long_and_many_words_take_little_time():
    tokenizer = WordPieceTokenizer(TRAINED.model_vocab, max_input_chars_per_word=1 << 20)
    start = time.perf_counter()
    assert len(tokenizer.encode("over" * 25_000)) >= 25_000
    assert TRAINED.encode("over" * 25_000).tolist() == [TRAINED.unk_id]
    TRAINED.encode("é" * 100_000)
    assert time.perf_counter() - start < 3


def test_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(wordpiece, "CACHED_CHUNKS", 10)
    tokenizer = copy.deepcopy(TRAINED)
    for i in range(100):
        text = f"fox{i} {'a' * 200}{i}"
        assert tokenizer.encode(text).tolist() == tokenizer.pieces(text)[0].tolist()
        assert len(tokenizer._cache) <= 10
    assert all(len(word) <= 100 for word in tokenizer._cache)


def test_threads_share_a_tokenizer(monkeypatch):
    monkeypatch.setattr(wordpiece, "CACHED_CHUNKS", 20)
    texts = [TEXT[i:] for i in range(40)]
    expected, wrong = [TRAINED.encode(text).tolist() for text in texts], []
    tokenizer = copy.deepcopy(TRAINED)

    def run():
        for text, ids in zip(texts, expected):
            if tokenizer.encode(text).tolist() != ids:
                wrong.append(text)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_copies_and_pickles_are_whole():
    for other in (copy.deepcopy(TRAINED), pickle.loads(pickle.dumps(TRAINED))):
        assert other.values() == TRAINED.values()
        assert other.encode(TEXT).tolist() == TRAINED.encode(TEXT).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab": {"a": 0}}, r"unk_token is '\[UNK\]', it must be in the vocabulary"),
        ({"vocab": {"a": 0}, "unk_token": "b"}, "unk_token is 'b'"),
        ({"vocab": {"a": 0, "[UNK]": 2}}, "no token has the id 1"),
        ({"vocab": {"a": 0, "[UNK]": 0}}, "have the same id, 0"),
        ({"vocab": ["[UNK]"]}, "vocab is .* it must be a dict"),
        ({"vocab": {"[UNK]": -1}}, r"the id of '\[UNK\]' is -1"),
        ({"vocab": {"[UNK]": "0"}}, r"the id of '\[UNK\]' is '0'"),
        ({"vocab": {"[UNK]": 0, 5: 1}}, "a token of vocab is 5"),
        ({"vocab": VOCAB, "prefix": None}, "prefix is None"),
        ({"vocab": VOCAB, "unk_token": ["[UNK]"]}, "unk_token is .* it must be a string"),
        ({"vocab": VOCAB, "basic": (True,)}, "basic is .* it must be a Basic"),
        ({"vocab": VOCAB, "basic": Basic(lowercase="no")}, "lowercase is 'no', it must be true or false"),
        ({"vocab": VOCAB, "max_input_chars_per_word": -1}, "max_input_chars_per_word is -1"),
        ({"vocab": VOCAB, "added": [AddedToken("the", 1)]}, "two ids"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(MinigptError, match=message):
        WordPieceTokenizer(**arguments)


@pytest.mark.parametrize("text", [None, 5, b"the", ["the"], "the \ud800"])
def test_what_is_no_text(text):
    for encode in (TOKENIZER.encode, TOKENIZER.encoding):
        with pytest.raises(MinigptError):
            encode(text)


# Training


def test_trained_vocabulary():
    vocab = list(TRAINED.vocab)
    assert len(vocab) == TRAINED.vocab_size == 150 and tuple(vocab[:5]) == SPECIAL
    characters = [token for token in vocab[5:] if len(token) == 1]
    assert characters == sorted(characters) == vocab[5 : 5 + len(characters)]
    assert "fox" in vocab and "over" in vocab and "the" in vocab
    assert TRAINED.decode(TRAINED.encode("the quick dogs jumps")) == "the quick dogs jumps"
    assert TRAINED.unk_id not in TRAINED.encode(TEXT)
    assert TRAINED.tokens("fox", True) == ["[CLS]", "fox", "[SEP]"]


def test_training_on_many_texts():
    lines = TEXT.splitlines()
    assert WordPieceTokenizer.train(iter(lines), 150).vocab == WordPieceTokenizer.train("\n".join(lines), 150).vocab


def test_training_ends_where_nothing_is_left_to_join():
    tokenizer = WordPieceTokenizer.train("ab ab cd", 1000)
    assert list(tokenizer.vocab)[5:] == ["a", "b", "c", "d", "##b", "##d", "ab", "cd"]
    assert list(WordPieceTokenizer.train("", 9).vocab) == list(SPECIAL)
    assert list(WordPieceTokenizer.train("ab ab cd", 1000, min_frequency=2).vocab)[11:] == ["ab"]


def test_training_settings():
    text = "Été été ÉTÉ 中中"
    assert list(WordPieceTokenizer.train(text, 20).vocab)[5:] == ["e", "t", "中", "##e", "##t", "et", "ete"]
    cased = WordPieceTokenizer.train(text, 30, lowercase=False)
    assert cased.basic == Basic(lowercase=False) and "été" in cased.vocab and "É" in cased.vocab
    assert "été" in WordPieceTokenizer.train(text, 30, strip_accents=False).vocab
    assert "中中" in WordPieceTokenizer.train(text, 30, handle_chinese_chars=False).vocab


def test_alphabet_is_limited_to_the_most_frequent():
    tokenizer = WordPieceTokenizer.train("aaa aab abc x", 30, limit_alphabet=2)
    assert list(tokenizer.vocab)[5:9] == ["a", "b", "##a", "##b"] and "c" not in tokenizer.vocab
    assert tokenizer.tokens("x ab") == ["[UNK]", "ab"]


def test_special_tokens_of_ones_own():
    tokenizer = WordPieceTokenizer.train("the the", 20, ("<unk>", "<s>", "the"))
    assert list(tokenizer.vocab)[:6] == ["<unk>", "<s>", "the", "e", "h", "t"]
    assert tokenizer.tokens("the<s>zz", True) == ["the", "<s>", "<unk>"]
    assert tokenizer.tokens("the") == ["the"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 10}, "vocab_size is 10, it must be at least 12: 5 are special"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"vocab_size": 2.5}, "vocab_size is 2.5"),
        ({"text": None}, "text is None"),
        ({"text": b"the"}, "text is b'the'"),
        ({"text": "\udc00"}, "half of a UTF-16 pair"),
        ({"special_tokens": "[UNK]"}, "must be a list"),
        ({"special_tokens": None}, "special_tokens is None, it must be a list"),
        ({"lowercase": "no"}, "lowercase is 'no'"),
        ({"special_tokens": ["[UNK]", ""]}, r"special_tokens\[1\] is ''"),
        ({"special_tokens": ["[UNK]", "\ud800"]}, "half of a UTF-16 pair"),
        ({"special_tokens": ["[UNK]", "[UNK]"]}, "stands twice"),
        ({"special_tokens": ["[CLS]"]}, r"'\[UNK\]' must be among them"),
        ({"limit_alphabet": 0}, "limit_alphabet is 0"),
        ({"min_frequency": -1}, "min_frequency is -1"),
    ],
)
def test_training_error(arguments, message):
    with pytest.raises(MinigptError, match=message):
        WordPieceTokenizer.train(**({"text": "abc abd", "vocab_size": 50} | arguments))


# Files


def same(a, b):
    texts = [TEXT, "[CLS] a [MASK]", "École 中文"]
    both = ((a.encode(text, special), b.encode(text, special)) for text in texts for special in (False, True))
    return a.values() == b.values() and all(np.array_equal(x, y) for x, y in both)


OTHERS = [TRAINED, TOKENIZER, WordPieceTokenizer.train(TEXT, 160, lowercase=False)]
OTHERS += [WordPieceTokenizer.train(TEXT, 160, strip_accents=False), WordPieceTokenizer.train(TEXT, 150, ("[UNK]",))]


@pytest.mark.parametrize("tokenizer", OTHERS)
def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert same(minigpt.load_tokenizer(tmp_path), tokenizer)
    assert same(WordPieceTokenizer.from_json(tokenizer.to_json()), tokenizer)
    lines = (tmp_path / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert lines == [*tokenizer.vocab, ""]


@pytest.mark.parametrize("tokenizer", OTHERS[:4])
def test_older_files(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert same(minigpt.load_tokenizer(tmp_path), tokenizer)


def write_folder(folder, lines, config=None):
    (folder / "vocab.txt").write_bytes(lines if isinstance(lines, bytes) else "\n".join(lines).encode())
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_vocab_text_of_a_windows_editor(tmp_path):
    write_folder(tmp_path, b"\xef\xbb\xbf" + "\r\n".join([*PIECES, "", ""]).encode())
    assert list(minigpt.load_tokenizer(tmp_path).vocab) == PIECES


def test_a_token_may_be_a_line_separator(tmp_path):
    write_folder(tmp_path, [*PIECES, "\u2028", "\x85", "\x0b"])
    assert minigpt.load_tokenizer(tmp_path).vocab["\x0b"] == len(PIECES) + 2


def test_settings_of_an_older_folder(tmp_path):
    pieces = [*PIECES, "École", "中the", "école"]
    for config, tokens in (
        (None, ["ecole", "中", "the"]),
        ({}, ["ecole", "中", "the"]),
        ({"do_lower_case": False}, ["École", "中", "the"]),
        ({"do_lower_case": False, "strip_accents": True}, ["[UNK]", "中", "the"]),
        ({"strip_accents": False, "tokenize_chinese_chars": False}, ["école", "中the"]),
        ({"do_lower_case": True, "never_split": None, "do_basic_tokenize": True}, ["ecole", "中", "the"]),
    ):
        assert minigpt.load_tokenizer(write_folder(tmp_path, pieces, config)).tokens("École 中the") == tokens


def test_special_tokens_that_an_older_folder_names(tmp_path):
    lines = ["<u>", "<c>", "<s>", "[UNK]", "a"]
    config = {"unk_token": "<u>", "cls_token": {"content": "<c>"}, "sep_token": "<s>"}
    tokenizer = minigpt.load_tokenizer(write_folder(tmp_path, lines, config))
    assert tokenizer.tokens("a b", True) == ["<c>", "a", "<u>", "<s>"]
    assert list(tokenizer.vocab) == [*lines, "[PAD]", "[MASK]"]


@pytest.mark.parametrize(
    ("lines", "config", "message"),
    [
        (["[UNK]", "a", "[UNK]"], None, r"vocab.txt, line 3: '\[UNK\]' stood in line 1 already"),
        (["[UNK]", "", "a"], None, "vocab.txt, line 2, is empty"),
        (["", "", ""], None, "has 0 tokens"),
        (["a", "b"], None, r"unk_token is '\[UNK\]', it must be in the vocabulary"),
        (b"[UNK]\na\xff", None, "byte 0xff at offset 7 is not UTF-8"),
        (PIECES, {"do_lower_case": 1}, "do_lower_case is 1"),
        (PIECES, {"never_split": ["a"]}, "never_split"),
        (PIECES, {"do_basic_tokenize": False}, "do_basic_tokenize is False"),
        (PIECES, {"cls_token": 5}, "cls_token"),
    ],
)
def test_older_folder_error(tmp_path, lines, config, message):
    with pytest.raises(MinigptError, match=message):
        minigpt.load_tokenizer(write_folder(tmp_path, lines, config))


def changed(**changes):
    """tokenizer.json with other values, each under "component__key"."""
    values = json.loads(TOKENIZER.to_json())
    for path, value in changes.items():
        *above, key = path.split("__")
        section = values
        for name in above:
            section = section[name]
        if value is KeyError:
            del section[key]
        else:
            section[key] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFKC"}}, "NFKC.*BertNormalizer"),
        ({"normalizer__lowercase": "yes"}, "lowercase is 'yes', it must be true or false"),
        ({"normalizer__accents": True}, "unknown key 'accents'"),
        ({"pre_tokenizer": None}, "pre_tokenizer is null"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace.*BertPreTokenizer"),
        ({"decoder": {"type": "ByteLevel"}}, "ByteLevel.*WordPiece"),
        ({"decoder__prefix": "@@"}, "prefix is '@@', it must be '##'"),
        ({"decoder__cleanup": None}, "cleanup is None"),
        ({"model__type": "WordLevel"}, "WordLevel"),
        ({"model__unk_token": "<unk>"}, "unk_token is '<unk>', it must be in the vocabulary"),
        ({"model__unk_token": None}, "unk_token is None"),
        ({"model__max_input_chars_per_word": 1.5}, "max_input_chars_per_word is 1.5"),
        ({"model__dropout": 0.1}, "unknown key 'dropout'"),
        ({"model__vocab": ["a"]}, "vocab is .*must be a JSON object"),
        ({"model__vocab": {"[UNK]": "0"}}, r"\[UNK\] is '0'"),
        ({"model__vocab__the": 3}, "same id"),
        ({"model__vocab__the": 99}, "no token has the id"),
        ({"added_tokens": [{"id": 9, "content": "[MASK]"}]}, "two ids"),
        ({"post_processor__special_tokens__[CLS]__ids": [7]}, "gives .*the id 7"),
    ],
)
def test_tokenizer_json_error(changes, message):
    with pytest.raises(MinigptError, match=message) as error:
        WordPieceTokenizer.from_json(changed(**changes), "tokenizer.json")
    assert str(error.value).startswith("tokenizer.json")


def test_tokenizer_json_of_other_settings():
    assert WordPieceTokenizer.from_json(changed(normalizer=None)).basic == Basic(False, False, False, False)
    assert WordPieceTokenizer.from_json(changed(decoder=None)).cleanup is None
    assert WordPieceTokenizer.from_json(changed(model__max_input_chars_per_word=KeyError)).longest_word == 100
    other = WordPieceTokenizer.from_json(changed(model__continuing_subword_prefix="@@", decoder__prefix="@@"))
    assert other.tokens("unaff") == ["[UNK]"] and other.tokens("una") == ["una"]
    assert "BertTokenizer" not in other.files()["tokenizer_config.json"]


# Compared with `tokenizers` and `transformers`

ALPHABET = "abcxyzAEB \t\n.,!'-[]#@é\u0301\u0323\u0345\u200d\xa0中가\u1100İßﬁΣς😀👨\ufe0f\0\x7f\ufffd\u0627\u094d"
CHUNKS = [
    *ALPHABET,
    *SPECIAL,
    "##",
    "the ",
    "quick",
    "It's",
    "don't ",
    "École",
    "👩\u200d🚀",
    "vos springt ",
    "x" * 101,
]
CHUNKS += ["\u0f73", "\u302e", "\U0001d165"]
TEXTS = st.lists(st.sampled_from(CHUNKS), max_size=20).map("".join) | st.text()


@pytest.fixture(scope="module")
def theirs():
    """Ours and `tokenizers`' of the same JSON."""
    tokenizers = tokenizers_oracle()
    added = {"added": [*LETTERS.added.tokens, *WORDS], "post_processor": LETTERS.template.source}
    cased = [WordPieceTokenizer(LETTERS.model_vocab, basic=Basic(lowercase), **added) for lowercase in (False, True)]
    return [(tokenizer, tokenizers.Tokenizer.from_str(tokenizer.to_json())) for tokenizer in [*OTHERS, *cased]]


@pytest.mark.parity
@settings(deadline=None, max_examples=300)
@given(TEXTS, st.booleans(), st.integers(0, len(OTHERS) - 1))
def test_ids_offsets_and_texts_are_those_of_tokenizers(theirs, text, special, which):
    ours, other = theirs[which]
    other.no_truncation()
    other.encode_special_tokens = not special
    expected = other.encode(text, add_special_tokens=special)
    encoding = ours.encoding(text, special=special)
    assert ours.encode(text, special).tolist() == encoding.ids.tolist() == expected.ids
    assert [tuple(span) for span in encoding.offsets.tolist()] == expected.offsets
    assert encoding.token_type_ids.tolist() == expected.type_ids
    for skip in (False, True):
        assert ours.decode(expected.ids, skip) == other.decode(expected.ids, skip_special_tokens=skip)


@pytest.mark.parity
@settings(deadline=None, max_examples=100)
@given(TEXTS, TEXTS, st.none() | st.integers(3, 30))
def test_pairs_are_those_of_tokenizers(theirs, text, pair, max_length):
    ours, other = theirs[0]
    other.encode_special_tokens = False
    if max_length is None:
        other.no_truncation()
    else:
        other.enable_truncation(max_length)
    expected = other.encode(text, pair)
    encoding = ours.encoding(text, pair, max_length=max_length)
    assert encoding.ids.tolist() == expected.ids and encoding.token_type_ids.tolist() == expected.type_ids
    assert [tuple(span) for span in encoding.offsets.tolist()] == expected.offsets


LETTERS = WordPieceTokenizer.train("q x f o w u i c k é 中文 n e r y abc abc", 40)
FLAGS = [  # of added tokens, in all their sorts
    ("New York", {"normalized": True, "special": False}),
    ("École", {"normalized": True, "special": False}),
    ("[L]", {"lstrip": True}),
    ("[R]", {"rstrip": True, "normalized": True}),
    ("中文", {"special": False}),
    ("fox", {"single_word": True, "normalized": True, "special": False}),
    ("中x", {"normalized": True, "special": False}),
    ("quick", {"single_word": True, "special": False}),
]
WORDS = [AddedToken(content, LETTERS.vocab_size + i, **flags) for i, (content, flags) in enumerate(FLAGS)]
PARTS = [
    "new york",
    "ÉCOLE",
    "école",
    "e\u0301cole",
    "NEW  YORK",
    "中",
    "文",
    "x",
    "foxes",
    " quick",
    "quick_",
    "[l]",
    "[r]",
]
PARTS += [*(content for content, _ in FLAGS), " ", "  ", "\n", "\0", "\u200b", "\u0301", "é", "a", ".", "[CLS]"]


@pytest.mark.parity
@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PARTS), max_size=8).map("".join), st.booleans(), st.booleans())
def test_added_tokens_are_found_as_in_tokenizers(theirs, text, special, lowercase):
    ours, other = theirs[len(OTHERS) + lowercase]
    other.encode_special_tokens = not special
    expected = other.encode(text, add_special_tokens=special)
    encoding = ours.encoding(text, special=special)
    assert ours.encode(text, special).tolist() == encoding.ids.tolist() == expected.ids
    assert [tuple(span) for span in encoding.offsets.tolist()] == expected.offsets


@pytest.fixture(scope="module")
def real():
    """BERT's real vocabulary: ours, and `tokenizers`' of the file as it is."""
    tokenizers = tokenizers_oracle()
    try:
        folder = package_files(MINILM_PACKAGE, MINILM_FILES, say=lambda line: None)
    except MinigptError as error:
        pytest.skip(str(error))
    other = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    other.no_truncation()
    other.no_padding()
    return minigpt.load_tokenizer(folder), other


@pytest.mark.slow
@pytest.mark.parity
@settings(deadline=None, max_examples=2000)
@given(TEXTS, st.booleans())
def test_the_real_vocabulary_gives_the_ids_of_tokenizers(real, text, special):
    ours, other = real
    other.encode_special_tokens = not special
    expected = other.encode(text, add_special_tokens=special)
    encoding = ours.encoding(text, special=special)
    assert ours.encode(text, special).tolist() == encoding.ids.tolist() == expected.ids
    assert [tuple(span) for span in encoding.offsets.tolist()] == expected.offsets
    assert ours.decode(expected.ids) == other.decode(expected.ids, skip_special_tokens=False)


@pytest.mark.slow
@pytest.mark.parity
def test_the_real_vocabulary_on_every_code_point(real):
    ours, other = real
    other.encode_special_tokens = True
    codes = some_code_points()
    for start in range(0, len(codes), 64):
        text = "\n".join(f"{chr(code)} a{chr(code)}b" for code in codes[start : start + 64])
        expected = other.encode(text, add_special_tokens=False)
        assert ours.encode(text).tolist() == expected.ids, hex(codes[start])
        assert [tuple(span) for span in ours.pieces(text)[1].tolist()] == expected.offsets, hex(codes[start])


@pytest.mark.slow
def test_the_real_vocabulary_as_it_was_published(real):
    """Written as vocab.txt, and some words by its pieces."""
    ours, _ = real
    assert hashlib.sha256(ours.files()["vocab.txt"].encode()).hexdigest() == VOCAB_SHA256
    tokens = ours.tokens("Unaffable BERT doesn't tokenize café")
    assert tokens == ["una", "##ffa", "##ble", "bert", "doesn", "'", "t", "token", "##ize", "cafe"]


@pytest.mark.parity
@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, TRAINED.vocab_size - 1), max_size=20))
def test_any_ids_are_decoded_as_in_tokenizers(theirs, ids):
    ours, other = theirs[0]
    assert ours.decode(ids) == other.decode(ids, skip_special_tokens=False)


@pytest.mark.parity
def test_every_token_is_cleaned_as_in_tokenizers():
    tokenizers = tokenizers_oracle()
    tokens = [
        "[UNK]",
        ".",
        "?",
        "!",
        ",",
        "'",
        "n't",
        "'m",
        "do",
        "don",
        "'s",
        "'ve",
        "'re",
        "not",
        "o'clock",
        "do not",
    ]
    tokens += ["a .", "##'s", "## .", "##", "a##"]
    ours = WordPieceTokenizer({token: i for i, token in enumerate(tokens)})
    other = tokenizers.Tokenizer.from_str(ours.to_json())
    for first in range(len(tokens)):
        for second in range(len(tokens)):
            ids = [first, second]
            assert ours.decode(ids) == other.decode(ids, skip_special_tokens=False), ids


@pytest.mark.parity
@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.text("abcdé中", min_size=1, max_size=8), min_size=1, max_size=30), st.integers(0, 80), st.integers(0, 3)
)
def test_trained_pieces_are_those_of_tokenizers(words, more, min_frequency):
    tokenizers = tokenizers_oracle()
    text, basic = " ".join(words), Basic()
    first = list(SPECIAL)
    wordpiece_training.add_alphabet(first, wordpiece_training.count_words(text, basic))
    ours = WordPieceTokenizer.train(text, len(first) + more, min_frequency=min_frequency)
    other = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    other.normalizer = tokenizers.normalizers.BertNormalizer()
    other.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    options = {"vocab_size": len(first) + more, "min_frequency": min_frequency, "show_progress": False}
    # "##" characters have random ids there: as special tokens they have ours
    other.train_from_iterator([text], tokenizers.trainers.WordPieceTrainer(special_tokens=first, **options))
    assert ours.vocab == other.get_vocab()


@pytest.mark.parity
@pytest.mark.parametrize(("tokenizer", "older"), [(t, older) for t in OTHERS for older in (False, True)][:-1])
def test_saved_folders_load_in_transformers(tokenizer, older, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    if older:
        (tmp_path / "tokenizer.json").unlink()
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (TEXT, "[CLS] É[MASK] 中", "x" * 101):
        ids = tokenizer.encode(text, special=True).tolist()
        assert other(text)["input_ids"] == ids
        assert other.decode(ids) == tokenizer.decode(ids)
    assert other("a b", "c")["input_ids"] == tokenizer.encoding("a b", "c").ids.tolist()
    if "cls" in tokenizer.roles:
        batch = tokenizer.batch([TEXT, "the fox"], ["the dog", "a"], max_length=20)
        theirs = other([TEXT, "the fox"], ["the dog", "a"], truncation=True, max_length=20, padding=True)
        for name, their_name in (("ids", "input_ids"), *((n, n) for n in ("attention_mask", "token_type_ids"))):
            assert batch[name].tolist() == theirs[their_name]
