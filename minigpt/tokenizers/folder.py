"""Tokenizers in folders of Hugging Face: tokenizer.json, or the older files from which it is made.

tokenizer.json holds all that encode and decode need. What a special token is for, and which older
class it was, is in tokenizer_config.json and special_tokens_map.json.
"""

import contextlib
from pathlib import Path

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Missing, Values, read_json
from minigpt.tokenizers.added import FLAGS, LARGEST_VOCABULARY, AddedToken, refuse_halves
from minigpt.tokenizers.base import FILE, ROLES

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
SENTENCES = "sentence_bert_config.json"  # of sentence-transformers
LONGEST = 1 << 40  # tokens; transformers writes 10**30 where there is no limit
EXTRA = ("additional_special_tokens", "extra_special_tokens")  # lists of special tokens without a role


def read_huggingface(values, kinds, named=None):
    """The tokenizer of the files.Values of a tokenizer.json; kinds: type of the model -> class;
    named: of `read_special_tokens`. MinigptError names a kind that isn't known, and what is wrong.
    """
    model, (roles, tokens) = values.section("model"), named or ({}, [])
    return kinds[model_type(model, kinds)].from_values(values, roles=roles, more=tokens)


def model_type(model, kinds):
    """The type of a model in tokenizer.json; early files don't say it."""
    if "type" in model:
        return model.one_of("type", tuple(kinds))
    if "merges" in model:
        return "BPE"
    if "max_input_chars_per_word" in model:
        return "WordPiece"
    if "unk_id" in model:
        return "Unigram"
    return model.one_of("type", tuple(kinds))  # complains that it is missing


def read_folder(directory, kinds, older):
    """The tokenizer in a folder: of tokenizer.json, else of vocab.json and merges.txt, else of
    vocab.txt, else of spiece.model, with the max_length that other files give; kinds: type of the
    model -> class; older: classes of the other files. Missing where there is none of these,
    MinigptError where one is damaged.
    """
    directory = Path(directory)
    tokenizer = read_files(directory, kinds, older)
    for name, key in ((CONFIG, "model_max_length"), (SENTENCES, "max_seq_length")):  # the second one is right
        with contextlib.suppress(Missing):
            limit = read_json(directory / name).whole(key, at_least=1, default=None)
            if limit is not None:
                tokenizer.max_length = None if limit > LONGEST else limit
    return tokenizer


def read_files(directory, kinds, older):
    """read_folder, without the max_length."""
    config, named = read_special_tokens(directory)
    with contextlib.suppress(Missing):
        tokenizer = read_huggingface(read_json(directory / FILE), kinds, named)
        if config is not None:
            tokenizer.check_config(config)
        return tokenizer
    for kind in older:
        if kind.is_in(directory):
            return kind.from_folder(directory, config, *named)
    files = ", ".join(" and ".join(kind.FILES) for kind in older)
    raise Missing(f"{directory}: there is no tokenizer in it ({FILE}, {files} are missing)")


# Special tokens


def read_special_tokens(directory):
    """What tokenizer_config.json and special_tokens_map.json say: (its Values or None, (role ->
    special token, special tokens in the order of their ids)).
    """
    roles, tokens, config = {}, {}, None
    for name in (MAP, CONFIG):  # the second one is right where they differ
        try:
            values = read_json(directory / name)
        except Missing:
            continue
        config = values if name == CONFIG else config
        for token in decoder_tokens(values):
            tokens[token.content] = token
        for role in ROLES:
            if (token := read_token(values, f"{role}_token")) is not None:
                roles[role] = token.content
                tokens.setdefault(token.content, token)
        for token in extra_tokens(values):
            tokens.setdefault(token.content, token)
    for content in read_added(directory):
        tokens.setdefault(content, AddedToken(content, 0, special=False))
    refuse_halves(tokens, directory)
    return config, (roles, list(tokens.values()))


def read_token(values, key):
    """A special token in files.Values, a string or an object with flags; None where it is null."""
    if isinstance(raw(values, key), str):
        token = AddedToken(values.text(key), 0)
    else:
        section = values.section(key, default=None)
        token = None if section is None else token_of(section)
    if token is not None and not token.content:
        raise MinigptError(f"{values.where}: {key} is '', a special token must have at least 1 character")
    return token


def token_of(section):
    """An AddedToken, without its id, of files.Values."""
    section.refuse_unknown({"content", "__type", "id", *FLAGS})
    flags = {flag: section.flag(flag, default=flag == "special") for flag in FLAGS}
    return AddedToken(section.text("content"), 0, **flags)


def decoder_tokens(values):
    """The tokens of added_tokens_decoder: id as text -> token, in the order of their ids."""
    section = values.section("added_tokens_decoder", default=None)
    found = []
    for key in section or ():
        number = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else LARGEST_VOCABULARY
        if number >= LARGEST_VOCABULARY:
            raise MinigptError(f"{section.where}: {shortened(key)} is no id, a whole number below {LARGEST_VOCABULARY}")
        found.append(token_of(section.section(key))._replace(id=number))
    return sorted((token for token in found if token.content), key=lambda token: token.id)


def extra_tokens(values):
    """Special tokens without a role."""
    found = []
    for key in EXTRA:
        content = raw(values, key)
        if isinstance(content, dict):  # name -> token, of late
            section = values.section(key)
            found += [read_token(section, name) for name in section]
        else:
            listed = Values({str(i): token for i, token in enumerate(values.list(key, default=None) or [])}, key)
            found += [read_token(listed, name) for name in listed]
    return [token for token in found if token is not None]


def read_added(directory):
    """Tokens of added_tokens.json, in the order of their ids."""
    try:
        values = read_json(directory / ADDED)
    except Missing:
        return []
    return sorted((key for key in values if key), key=lambda key: values.whole(key, at_least=0))


def raw(values, key):
    """A value of files.Values that may be of several types."""
    return dict(values.items()).get(key)
