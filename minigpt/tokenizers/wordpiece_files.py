"""WordPiece in files: tokenizer.json's components, and the older vocab.txt with its settings."""

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import read_text
from minigpt.tokenizers.added import LARGEST_VOCABULARY
from minigpt.tokenizers.basic import Basic
from minigpt.tokenizers.pieces import USUAL, component, read_vocab, with_more
from minigpt.tokenizers.templates import bert_template

NORMALIZER = {"BertNormalizer": Basic._fields}
MODEL_KEYS = ("type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab")
ROLES = ("unk", "sep", "pad", "cls", "mask")  # that BERT has, in the order in which `transformers` adds what is missing


# tokenizer.json


def read_wordpiece(values, model):
    """files.Values of tokenizer.json and of its model -> (vocab, arguments of WordPieceTokenizer).
    MinigptError names what isn't computed.
    """
    model.refuse_unknown(MODEL_KEYS)
    model.one_of("type", ("WordPiece",), default="WordPiece")
    section = component(values, "normalizer", NORMALIZER)
    basic = Basic(False, False, False, False) if section is None else read_basic(section)
    if component(values, "pre_tokenizer", {"BertPreTokenizer": ()}) is None:
        raise MinigptError(f"{values.where}: pre_tokenizer is null, WordPiece is computed with BertPreTokenizer alone")
    prefix = model.text("continuing_subword_prefix", default="##")
    decoder, cleanup = component(values, "decoder", {"WordPiece": ("prefix", "cleanup")}), None
    if decoder is not None:
        decoder.one_of("prefix", (prefix,), default=prefix)
        cleanup = decoder.flag("cleanup", default=True)
    longest = model.whole("max_input_chars_per_word", at_least=0, default=100)
    arguments = {"basic": basic, "unk_token": model.text("unk_token", default="[UNK]"), "prefix": prefix}
    return read_vocab(model), arguments | {"max_input_chars_per_word": longest, "cleanup": cleanup}


def read_basic(section):
    """The settings of a BertNormalizer's files.Values."""
    flags = {key: section.flag(key, default=True) for key in ("lowercase", "clean_text", "handle_chinese_chars")}
    return Basic(strip_accents=section.flag("strip_accents", default=None), **flags)


# vocab.txt and tokenizer_config.json


def read_vocab_text(path):
    """token -> id of vocab.txt, where a token's line is its id. MinigptError names a line that is
    empty or stands twice.
    """
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]  # a token may be U+2028
    while lines and not lines[-1]:
        lines.pop()
    if not 0 < len(lines) <= LARGEST_VOCABULARY:
        raise MinigptError(f"{path} has {len(lines):,} tokens, there must be 1 to {LARGEST_VOCABULARY:,}")
    vocab = {}
    for i, token in enumerate(lines):
        if not token:
            raise MinigptError(f"{path}, line {i + 1}, is empty, it must be a token")
        if vocab.setdefault(token, i) != i:
            raise MinigptError(f"{path}, line {i + 1}: {shortened(token)} stood in line {vocab[token] + 1} already")
    return vocab


def folder_arguments(vocab, config, roles, tokens):
    """Arguments of WordPieceTokenizer for a vocabulary and what other files say: the files.Values
    of tokenizer_config.json or None, role -> special token, special tokens. MinigptError for a
    setting that isn't computed.
    """
    settings = {}
    if config is not None:
        config.one_of("do_basic_tokenize", (True, None), default=None)
        if config.list("never_split", default=None):
            raise MinigptError(
                f"{config.where}: never_split is {shortened(config.list('never_split'))}, none is computed"
            )
        names = {"lowercase": "do_lower_case", "handle_chinese_chars": "tokenize_chinese_chars"}
        settings = {name: config.flag(key, default=True) for name, key in names.items()}
        settings["strip_accents"] = config.flag("strip_accents", default=None)
    roles = {role: next(name for name in USUAL[role] if name.startswith("[")) for role in ROLES} | roles
    arguments = {"basic": Basic(**settings), "unk_token": roles["unk"], "roles": roles}
    if roles["unk"] in vocab:
        arguments["added"] = added = with_more([], [*tokens, *(roles[role] for role in ROLES)], vocab)
        ids = {token.content: token.id for token in added}
        arguments["post_processor"] = bert_template(*((roles[role], ids[roles[role]]) for role in ("cls", "sep")))
    return arguments


def older_files(tokenizer):
    """What tokenizer_config.json says of a WordPieceTokenizer, and vocab.txt, name -> text, where a
    line can hold each token.

    The class is BertTokenizer where that, which reads the vocabulary and the settings here alone,
    is the same one.
    """
    basic, last = tokenizer.basic, max(tokenizer.model_vocab.values())
    config = {"do_lower_case": basic.lowercase, "strip_accents": basic.strip_accents}
    config["tokenize_chinese_chars"] = basic.handle_chinese_chars
    usual = (True, "##", 100, True)
    same = (basic.clean_text, tokenizer.prefix, tokenizer.longest_word, tokenizer.cleanup) == usual
    roles = [tokenizer.roles.get(role) for role in ("cls", "sep")]
    if same and None not in roles:
        around = bert_template(*((token, tokenizer.vocab[token]) for token in roles))
        if tokenizer.template.source == around:
            config["tokenizer_class"] = "BertTokenizer"
    tokens = [token for token, number in tokenizer.vocab.items() if number <= last]
    if any("\n" in token or token.endswith("\r") or not token for token in tokens):
        return config, {}
    return config, {"vocab.txt": "".join(f"{token}\n" for token in tokens)}
