"""Hugging Face's files of tokenizers, before those that are wrong: each is refused by name."""

import doctest
import importlib
import json
import pkgutil

import numpy as np
import pytest
from bpe_samples import GPT2_LIKE, PREFIXED, ROBERTA_LIKE, TEXTS

import minigpt
from minigpt import BPETokenizer, MinigptError, WordPieceTokenizer, tokenizers
from minigpt.tokenizers.templates import bert_template

TOKEN = {"SpecialToken": {"id": "<s>", "type_id": 0}}
A, B = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}
WORDPIECE = WordPieceTokenizer.train(TEXTS, 200)
SPECIAL = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(tokenizers.__path__)])
def test_examples_of_the_module(name):
    assert doctest.testmod(importlib.import_module(f"minigpt.tokenizers.{name}")).failed == 0


def changed(values, path, value):
    """Values of a tokenizer.json with one of them, "model/vocab/a", replaced or removed (None)."""
    values = json.loads(json.dumps(values))
    *keys, last = path.split("/")
    place = values
    for key in keys:
        place = place[int(key) if isinstance(place, list) else key]
    if isinstance(place, list):
        place[int(last) :] = [value]
    elif value is ...:
        del place[last]
    else:
        place[last] = value
    return values


def refused(folder, values, message):
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(MinigptError, match=message) as error:
        minigpt.load_tokenizer(folder)
    assert str(error.value).startswith(str(folder)) and str(error.value).count(str(folder)) == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", ..., "JSON, or type|model|type is missing"),
        ("model/type", "WordLevel", "model: type is 'WordLevel', it must be one of BPE, WordPiece, Unigram"),
        ("model/type", 5, "type is 5"),
        ("model/dropout", 0.1, "model: dropout is 0.1"),
        ("model/fuse_unk", True, "model: fuse_unk is True"),
        ("model/byte_fallback", True, "byte_fallback is True"),
        ("model/continuing_subword_prefix", "##", "continuing_subword_prefix is '##'"),
        ("model/end_of_word_suffix", "</w>", "end_of_word_suffix is '</w>'"),
        ("model/ignore_merges", "no", "ignore_merges is 'no', it must be true or false"),
        ("model/unk_token", "<nope>", "unk_token is '<nope>', it must be in the vocabulary"),
        ("model/unk_token", 5, "unk_token is 5, it must be a string"),
        ("model/new_setting", 1, "unknown key 'new_setting'"),
        ("model/vocab", ["a"], r"vocab is \['a'\], it must be a JSON object"),
        ("model/vocab/!", "0", "vocab: ! is '0', it must be a whole number from 0"),
        ("model/vocab/!", True, "! is True"),
        ("model/vocab/!", -1, "! is -1"),
        ("model/vocab/!", 1 << 30, "! is 1073741824"),
        ("model/vocab/!", 2.0, "! is 2.0"),
        ("model/vocab/!", 9, "have the same id, 9"),
        ("model/vocab/!", 5000, "no token has the id 5, although '!' has the id 5000"),
        ("model/vocab/!", ..., "no token has the id 5"),
        ("model/vocab/\ud800", 420, "half of a UTF-16 pair"),
        ("model/merges", {}, "merges is {}, it must be a list"),
        ("model/merges", ["a"], r"merges\[0\] is 'a', it must be two tokens with a space between"),
        ("model/merges", ["a b c"], r"merges\[0\] is 'a b c'"),
        ("model/merges", ["a b", 5], r"merges\[1\] is 5, it must be a string"),
        ("model/merges", [["a"]], r"merges\[0\] is \['a'\], it must be a list of two tokens"),
        ("model/merges", [["a", 5]], r"merges\[0\] is \['a', 5\]"),
        ("model/merges", [["a", "b"], "a b"], r"merges\[1\] is 'a b'"),
        ("model/merges", [["ab", "a"]], "merge 0, 'ab' and 'a': 'ab' is not in the vocabulary"),
        ("model/merges", [["a", ""]], "'' is not in the vocabulary|none empty"),
        ("model/merges", [["\ud800", "a"]], r"'\\ud800' is not in the vocabulary"),
        ("normalizer", {"type": "NFC"}, "normalizer: 'NFC' is not computed for BPE"),
        ("normalizer", "NFC", "normalizer is 'NFC', it must be a JSON object"),
        ("pre_tokenizer", None, "pre_tokenizer is null, of BPE only the byte-level one is computed"),
        ("pre_tokenizer", {"type": "Metaspace"}, "pre_tokenizer: type is 'Metaspace', it must be 'ByteLevel'"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": []}, "type is 'Sequence'"),
        ("pre_tokenizer/new", 1, "pre_tokenizer: unknown key 'new'"),
        ("pre_tokenizer/use_regex", 1, "use_regex is 1"),
        ("decoder", None, "decoder is null"),
        ("decoder/type", "BPEDecoder", "decoder: type is 'BPEDecoder'"),
        (
            "post_processor/type",
            "Other",
            "post_processor: type is 'Other', it must be one of ByteLevel, BertProcessing",
        ),
        ("post_processor/new", 1, "unknown key 'new'"),
        ("post_processor/sep", ["</s>"], "sep has 1 entries, it must have 2"),
        ("post_processor/sep", ["</s>", 5], "sep gives '</s>' the id 5, which has the id 2 in the vocabulary"),
        ("post_processor/sep", ["<x>", 5], "sep gives '<x>' the id 5, which is not in the vocabulary"),
        ("post_processor/sep", [5, 5], r"sep\[0\] is 5, it must be a string"),
        ("post_processor/sep", ["</s>", "2"], "sep is '2', it must be a whole number"),
        ("added_tokens", {}, "added_tokens is {}, it must be a list"),
        ("added_tokens/0", 5, r"added_tokens\[0\] is 5"),
        ("added_tokens/0", {"id": 0}, r"added_tokens\[0\]: content is missing"),
        ("added_tokens/0", {"id": 0, "content": ""}, "content is ''"),
        ("added_tokens/0", {"id": "0", "content": "<s>"}, "id is '0'"),
        ("added_tokens/0", {"id": 7, "content": "<s>"}, "'<s>' has two ids, 7 among the added tokens and 0"),
        ("added_tokens/0", {"id": 0, "content": "new"}, "'<s>' and 'new' have the same id, 0"),
        ("added_tokens/0", {"id": 420, "content": "\udc00"}, "half of a UTF-16 pair"),
        ("added_tokens/0", {"id": 0, "content": "<s>", "rstrip": 1}, "rstrip is 1, it must be true or false"),
        ("added_tokens/0", {"id": 0, "content": "<s>", "new": 1}, "unknown key 'new'"),
        ("padding", 5, "padding is 5, it must be a JSON object"),
        ("version", 1, "version is 1, it must be a string"),
        ("new_part", {}, "unknown key 'new_part'; known are added_tokens"),
    ],
)
def test_a_wrong_tokenizer_json_is_refused(tmp_path, path, value, message):
    refused(tmp_path, changed(ROBERTA_LIKE.values(), path, value), message)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("single", [TOKEN], "single holds the texts .., it must hold A once"),
        ("single", [A, A], "must hold A once"),
        ("single", [B], "must hold A once"),
        ("pair", [A, TOKEN], "pair holds the texts .'A'., it must hold A and B once"),
        ("single", [5], r"single\[0\] is 5"),
        ("single", [{}], "has 0 entries, it must have 1"),
        ("single", [{"Other": {}}], "is 'Other', it must be one of SpecialToken, Sequence"),
        ("single", [A, {"SpecialToken": {"id": "<x>", "type_id": 0}}], "id is '<x>', which is not in special_tokens"),
        ("single", [{"Sequence": {"id": "C", "type_id": 0}}], "id is 'C', it must be one of A, B"),
        ("single", [{"Sequence": {"id": "A", "type_id": -1}}], "type_id is -1"),
        ("special_tokens", {}, "id is '<s>'"),
        ("special_tokens", {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}, "the id 3, which has the id 0"),
        ("special_tokens", {"<s>": {"id": "<s>", "ids": [0, 1], "tokens": ["<s>"]}}, "has 1 tokens and 2 ids"),
        ("special_tokens", {"<s>": {"id": "<s>", "ids": [0], "tokens": [5]}}, r"tokens\[0\] is 5"),
    ],
)  # fmt: skip
def test_a_wrong_template_is_refused(tmp_path, path, value, message):
    template = {"type": "TemplateProcessing", "single": [TOKEN, A], "pair": [TOKEN, A, B], "special_tokens": SPECIAL}
    good = ROBERTA_LIKE.values() | {"post_processor": template}
    assert BPETokenizer.from_json(json.dumps(good)).encode("", special=True).tolist() == [0]
    refused(tmp_path, good | {"post_processor": template | {path: value}}, message)


@pytest.mark.parametrize(
    ("processors", "message"),
    [
        ([{"type": "Sequence", "processors": []}], "type is 'Sequence', it must be one of ByteLevel"),
        ([{"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}] * 2, "two of its processors add tokens"),
        ("x", "processors is 'x', it must be a list"),
    ],
)
def test_a_wrong_sequence_of_processors_is_refused(tmp_path, processors, message):
    processor = {"type": "Sequence", "processors": processors}
    refused(tmp_path, ROBERTA_LIKE.values() | {"post_processor": processor}, message)


def test_truncation_and_padding_of_the_file_are_not_applied(tmp_path):
    values = ROBERTA_LIKE.values()
    values["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    values["padding"] = {
        "strategy": {"Fixed": 128},
        "direction": "Right",
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    read = minigpt.load_tokenizer(tmp_path)
    assert np.array_equal(read.encode("one another", special=True), ROBERTA_LIKE.encode("one another", special=True))
    assert read.values() == ROBERTA_LIKE.values()


def test_early_files_are_read(tmp_path):
    """Merges as lines of text, and a model without its type."""
    values = GPT2_LIKE.values()
    del values["model"]["type"], values["model"]["ignore_merges"], values["model"]["byte_fallback"], values["version"]
    values["model"]["merges"] = [" ".join(pair) for pair in GPT2_LIKE.merges]
    values["added_tokens"][0].pop("single_word")
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert minigpt.load_tokenizer(tmp_path).values() == GPT2_LIKE.values()


# Folders


def older(folder, tokenizer):
    """The files before tokenizer.json."""
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text(tokenizer.files()[name], encoding="utf-8")


@pytest.mark.parametrize("tokenizer", [GPT2_LIKE, ROBERTA_LIKE])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_vocab_and_merges_are_read(tmp_path, tokenizer, line_end):
    older(tmp_path, tokenizer)
    merges = tmp_path / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", line_end.encode()))
    read = minigpt.load_tokenizer(tmp_path)
    for text in TEXTS:
        assert np.array_equal(read.encode(text), tokenizer.encode(text))
    assert read.roles == tokenizer.roles and read.template == tokenizer.template
    assert read.special_ids.tolist() == tokenizer.special_ids.tolist()
    assert np.array_equal(BPETokenizer.from_files(tmp_path / "vocab.json", merges).encode("one"), read.encode("one"))


@pytest.mark.parametrize(
    "tokenizer", [GPT2_LIKE, ROBERTA_LIKE, PREFIXED, WORDPIECE], ids=["gpt2", "roberta", "prefixed", "bert"]
)
@pytest.mark.parametrize("any_class", [False, True])
def test_folders_without_tokenizer_json_are_read(tmp_path, tokenizer, any_class):
    """As other programs make them, and as earlier versions of this one wrote them."""
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["tokenizer_class"] == "RobertaTokenizer") == (tokenizer is ROBERTA_LIKE)
    if any_class:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    read = minigpt.load_tokenizer(tmp_path)
    for text in TEXTS:
        assert np.array_equal(read.encode(text, special=True), tokenizer.encode(text, special=True))
    assert read.roles == tokenizer.roles and read.template == tokenizer.template


def test_a_tokenizer_is_called_robertas_where_it_is_the_same():
    def written(**changes):
        around = changes.pop("around", ROBERTA_LIKE.template.source)
        added = changes.pop("added", ROBERTA_LIKE.added.tokens)
        made = BPETokenizer(
            ROBERTA_LIKE.model_vocab, ROBERTA_LIKE.merges, added=added, post_processor=around, **changes
        )
        return json.loads(made.files()["tokenizer_config.json"])

    assert written()["tokenizer_class"] == "RobertaTokenizer" and written()["mask_token"]["lstrip"] is True
    plain = [token._replace(lstrip=False) for token in ROBERTA_LIKE.added.tokens]
    assert written(added=plain)["tokenizer_class"] == "RobertaTokenizer"
    others = [{"use_regex": False}, {"ignore_merges": True}, {"around": None}, {"roles": {"cls": "the"}}]
    others += [{"added": plain[:-1]}, {"added": [plain[0]._replace(rstrip=True), *plain[1:]]}]
    others += [{"added": [*plain[:-1], plain[-1]._replace(normalized=True)]}, {"add_prefix_space": True}]
    others += [{"added": [*plain, plain[0]._replace(content="<new>", id=420)]}]
    for changes in others:
        assert written(**changes)["tokenizer_class"] == "PreTrainedTokenizerFast", changes


@pytest.mark.parametrize("tokenizer", [GPT2_LIKE, WORDPIECE], ids=["gpt2", "bert"])
def test_the_longest_text_is_written_and_read(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "any")
    assert minigpt.load_tokenizer(tmp_path / "any").max_length is None
    limited = minigpt.load_tokenizer(tmp_path / "any")
    limited.max_length = 7
    limited.save(tmp_path / "limited")
    config = tmp_path / "limited" / "tokenizer_config.json"
    assert json.loads(config.read_text())["model_max_length"] == 7
    assert minigpt.load_tokenizer(tmp_path / "limited").max_length == 7
    (tmp_path / "limited" / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    assert minigpt.load_tokenizer(tmp_path / "limited").max_length == 5  # of sentences
    (tmp_path / "limited" / "sentence_bert_config.json").unlink()
    config.write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert minigpt.load_tokenizer(tmp_path / "limited").max_length is None
    config.write_text('{"model_max_length": "x"}')
    with pytest.raises(MinigptError, match="model_max_length is 'x'"):
        minigpt.load_tokenizer(tmp_path / "limited")


def test_special_tokens_of_other_files_are_added(tmp_path):
    older(tmp_path, GPT2_LIKE)
    size = GPT2_LIKE.vocab_size
    settings = {
        "tokenizer_class": "GPT2TokenizerFast",
        "pad_token": {"content": "<pad>", "lstrip": False, "__type": "AddedToken"},
        "added_tokens_decoder": {str(size + 1): {"content": "<b>"}, str(size): {"content": "<a>", "special": False}},
        "additional_special_tokens": ["<c>", {"content": "<d>", "rstrip": True}],
        "extra_special_tokens": {"image_token": "<e>"},
        "add_prefix_space": True,
        "model_max_length": 1024,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<other>", "cls_token": None}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<z>": 2, "<y>": 1}))
    read = minigpt.load_tokenizer(tmp_path)
    assert read.pad_id == read.token_to_id("<pad>") and read.add_prefix_space and read.cls_id is None
    found = [token.content for token in read.added.tokens]
    assert set(found) == {"<|endoftext|>", "<a>", "<b>", "<pad>", "<c>", "<d>", "<e>", "<other>", "<y>", "<z>"}
    assert read.token_to_id("<a>") < read.token_to_id("<b>") and not read.added.by_content["<a>"].special
    assert read.added.by_content["<d>"].rstrip and read.added.by_content["<|endoftext|>"].special


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", '{"a": 0, "b": 0}', "'a' and 'b' have the same id"),
        ("vocab.json", '{"a": 0, "a": 1}', "the key 'a' stands twice"),
        ("vocab.json", "[]", "must be a JSON object"),
        ("merges.txt", "#version: 0.2\na b c\n", "line 2, is 'a b c', it must be two tokens"),
        ("merges.txt", "x\n", "line 1, is 'x'"),
        ("merges.txt", "\U0001f40c b\n", "is not in the vocabulary"),
        ("merges.txt", None, "merges.txt is missing"),
        ("tokenizer_config.json", '{"pad_token": 5}', "pad_token is 5"),
        ("tokenizer_config.json", '{"pad_token": ""}', "pad_token is ''"),
        ("tokenizer_config.json", '{"add_prefix_space": "yes"}', "add_prefix_space is 'yes'"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "a"}}}', "'x' is no id"),
        ("tokenizer_config.json", '{"additional_special_tokens": [5]}', "is 5"),
        ("special_tokens_map.json", '{"pad_token": {"content": "a", "x": 1}}', "unknown key 'x'"),
        ("added_tokens.json", '{"a": "b"}', "a is 'b'"),
    ],
)
def test_wrong_older_files_are_refused(tmp_path, name, content, message):
    older(tmp_path, GPT2_LIKE)
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(MinigptError, match=message):
        minigpt.load_tokenizer(tmp_path)


def test_folder_of_hugging_face_without_a_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(MinigptError, match="there is no tokenizer in it"):
        minigpt.load_tokenizer(tmp_path)
    PREFIXED.save(tmp_path)
    assert minigpt.load_tokenizer(tmp_path).values() == PREFIXED.values()


def test_folder_with_a_newer_checkpoint_is_still_refused(tmp_path):
    GPT2_LIKE.save(tmp_path)
    (tmp_path / "config.json").write_text('{"format_version": 99}')
    with pytest.raises(MinigptError, match="a newer minigpt wrote it"):
        minigpt.load_tokenizer(tmp_path)


def test_bert_template_around_bpe():
    template = bert_template(("<s>", 0), ("</s>", 2))
    tokenizer = BPETokenizer(ROBERTA_LIKE.model_vocab, ROBERTA_LIKE.merges, post_processor=template)
    found = tokenizer.encoding("a", "b")
    assert found.ids[[0, 2, 4]].tolist() == [0, 2, 2] and found.token_type_ids.tolist() == [0, 0, 0, 1, 1]
    assert found.sequences.tolist() == [-1, 0, -1, 1, -1]
    assert tokenizer.encoding("a", "b", special=False).token_type_ids.tolist() == [0, 1]
    with pytest.raises(MinigptError, match="max_length is 2, it must be a whole number of at least 3"):
        tokenizer.encoding("a", "b", max_length=2)


@pytest.mark.parametrize("name", ["GPT2TokenizerFast", "RobertaTokenizer", "PreTrainedTokenizerFast", None])
def test_a_config_that_disagrees_is_refused_where_its_class_goes_by_it(tmp_path, name):
    GPT2_LIKE.save(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": name, "add_prefix_space": False}))
    assert minigpt.load_tokenizer(tmp_path).values() == GPT2_LIKE.values()
    config.write_text(json.dumps({"tokenizer_class": name, "add_prefix_space": True}))
    if name in (None, "PreTrainedTokenizerFast"):
        assert minigpt.load_tokenizer(tmp_path).values() == GPT2_LIKE.values()
    else:
        with pytest.raises(MinigptError, match=r"add_prefix_space is True, tokenizer\.json says otherwise"):
            minigpt.load_tokenizer(tmp_path)
