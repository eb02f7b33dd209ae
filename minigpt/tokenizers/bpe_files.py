"""Files of byte-level BPE: what of tokenizer.json is computed, and what is refused."""

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.tokenizers.added import AddedToken
from minigpt.tokenizers.base import ROLES
from minigpt.tokenizers.pieces import component, read_vocab
from minigpt.tokenizers.templates import roberta_processing

GPT2, ROBERTA = ("<|endoftext|>",), ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # their special tokens
MODEL_KEYS = {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk"}
MODEL_KEYS |= {"byte_fallback", "ignore_merges", "vocab", "merges"}
COMPUTED = {  # settings of a model in tokenizer.json that change what it does -> values with which it is computed
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (False,),
    "byte_fallback": (False,),
}
ANY_CLASS = ("PreTrainedTokenizerFast", "TokenizersBackend")  # of transformers: those that tokenizer.json alone makes
LEVEL_KEYS = ("add_prefix_space", "trim_offsets", "use_regex")  # of the components that are called ByteLevel


def read_bpe(values, model):
    """files.Values of tokenizer.json and of its model -> (vocab, arguments of BPETokenizer)."""
    if (normalizer := values.section("normalizer", default=None)) is not None:
        raise MinigptError(f"{normalizer.where}: {shortened(normalizer.text('type'))} is not computed for BPE")
    level = read_level(values, "pre_tokenizer")
    read_level(values, "decoder")
    model.refuse_unknown(MODEL_KEYS)
    for key, allowed in COMPUTED.items():
        model.one_of(key, allowed, default=allowed[0])
    arguments = {"ignore_merges": model.flag("ignore_merges", default=False)}
    arguments |= {"unk_token": model.text("unk_token", default=None)}
    arguments |= {flag: level.flag(flag, default=True) for flag in ("add_prefix_space", "use_regex")}
    return read_vocab(model), arguments | {"merges": read_merges(model)}


def read_level(values, key):
    """The component ByteLevel under a key, its flags checked."""
    section = component(values, key, {"ByteLevel": LEVEL_KEYS})
    if section is None:
        raise MinigptError(f"{values.where}: {key} is null, of BPE only the byte-level one is computed: ByteLevel")
    for flag in LEVEL_KEYS:
        section.flag(flag, default=True)
    return section


def around_roberta(vocab, roles, add_prefix_space):
    """RoBERTa's post-processor for a vocabulary, None where it lacks its tokens."""
    cls, sep = roles.get("cls", "<s>"), roles.get("sep", "</s>")
    if cls not in vocab or sep not in vocab:
        return None
    return roberta_processing((cls, vocab[cls]), (sep, vocab[sep]), add_prefix_space)


def config_of(tokenizer):
    """What tokenizer_config.json says of a BPETokenizer alone: the class is RobertaTokenizer where
    that, which reads vocabulary, merges and special tokens, is the same one.
    """
    roles, prefix = tokenizer.roles, tokenizer.add_prefix_space
    config = {"add_prefix_space": prefix}
    if not ({*ROLES} <= roles.keys() and {*roles.values()} <= tokenizer.added.by_content.keys()):
        return config
    mask = tokenizer.added.by_content[roles["mask"]]
    plain = {AddedToken(token, tokenizer.vocab[token]) for token in roles.values()} - {mask._replace(lstrip=False)}
    around = around_roberta(tokenizer.vocab, roles, prefix)
    same = {*tokenizer.added.tokens} == plain | {mask} and tokenizer.template.source == around
    if not same or tokenizer.ignore_merges or not tokenizer.use_regex:
        return config
    flags = {key: value for key, value in mask._asdict().items() if key != "id"}
    return config | {"tokenizer_class": "RobertaTokenizer", "mask_token": {"__type": "AddedToken"} | flags}


def read_merges(model):
    """The merges of a model's files.Values: lists of two tokens, or texts with a space between."""
    merges = model.list("merges")
    if merges and isinstance(merges[0], str):
        return [pair_of(text, f"{model.where}: merges[{i}]") for i, text in enumerate(model.texts("merges"))]
    for i, pair in enumerate(merges):
        if not (type(pair) is list and len(pair) == 2 and type(pair[0]) is type(pair[1]) is str):
            raise MinigptError(f"{model.where}: merges[{i}] is {shortened(pair)}, it must be a list of two tokens")
    return merges  # halves of UTF-16 pairs are in no vocabulary


def parse_merges(text, where):
    """merges.txt, lines such as "t h" of which the first may be "#version: 0.2" -> pairs."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    first = lines[0].startswith("#version")
    return [pair_of(line, f"{where}, line {i},") for i, line in enumerate(lines[first:], first + 1) if line]


def pair_of(line, where):
    """Two tokens and the space between them."""
    pair = line.split(" ")
    if len(pair) != 2:
        raise MinigptError(f"{where} is {shortened(line)}, it must be two tokens with a space between")
    return pair
