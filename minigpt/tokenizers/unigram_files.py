"""Unigram in tokenizer.json: what is computed, and what is refused; and the parts of T5's."""

from collections import Counter

from minigpt.checks import number, shortened, whole
from minigpt.errors import MinigptError
from minigpt.files import kind
from minigpt.tokenizers.added import LARGEST_VOCABULARY, AddedToken, AddedTokens, refuse_halves
from minigpt.tokenizers.base import checked_text
from minigpt.tokenizers.basic import blocks
from minigpt.tokenizers.bpe_training import checked_special
from minigpt.tokenizers.metaspace import metaspace_from
from minigpt.tokenizers.normalizers import normalize, normalizer_from
from minigpt.tokenizers.pieces import USUAL, usual_roles

MODEL_KEYS = ("type", "unk_id", "vocab", "byte_fallback")
LARGEST_SCORE = 1e30  # so that no sum is infinite
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
T5_SPECIAL = ("<pad>", "</s>", "<unk>")
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
T5_NORMALIZER = {"type": "NFKC"}
T5_PRE_TOKENIZER = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]}
BYTE_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
# of a text that stays as it is: nothing is put before it, and nothing taken away
EXACT_METASPACE = METASPACE | {"prepend_scheme": "never"}
EXACT_BYTE_DECODER = BYTE_DECODER | {"decoders": BYTE_DECODER["decoders"][:-1]}


def read_unigram(values, model):
    """files.Values of tokenizer.json and of its model -> (pieces, arguments of UnigramTokenizer).
    MinigptError names what isn't computed.
    """
    model.refuse_unknown(MODEL_KEYS)
    model.one_of("type", ("Unigram",), default="Unigram")
    where, pieces = f"{model.where}: vocab", model.list("vocab")
    for i, piece in enumerate(pieces):
        if type(piece) is not list or len(piece) != 2:
            raise MinigptError(f"{where}[{i}] is {shortened(piece)}, it must be a piece and its score")
    arguments = {"unk_id": model.whole("unk_id", at_least=0, default=None)}
    arguments["byte_fallback"] = model.flag("byte_fallback", default=False)
    for key in ("normalizer", "pre_tokenizer", "decoder"):
        section = values.section(key, default=None)
        arguments[key] = None if section is None else dict(section.items())
    return checked_pieces(pieces, where), arguments


def checked_pieces(pieces, where="pieces"):
    """[(piece, score)] as tuples in a list. MinigptError for what is none, a piece that is empty,
    or stands twice, a score that is no finite number, or too many.
    """
    if not isinstance(pieces, list | tuple):
        raise MinigptError(f"{where} is {shortened(pieces)}, it must be a list of pieces and their scores")
    if not 0 < len(pieces) <= LARGEST_VOCABULARY:
        raise MinigptError(f"{where} has {len(pieces):,} pieces, there must be 1 to {LARGEST_VOCABULARY:,}")
    if all(map(is_plain, pieces)) and len(dict(pieces)) == len(pieces):  # nearly always, and fast
        refuse_halves((piece for piece, _ in pieces), where)
        return [(piece, score) for piece, score in pieces]
    checked, ids = [], {}
    for i, pair in enumerate(pieces):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise MinigptError(f"{where}[{i}] is {shortened(pair)}, it must be a piece and its score")
        piece, score = pair
        if not kind(f"{where}[{i}]", piece, str, words="a string"):
            raise MinigptError(f"{where}[{i}] is '', a piece must have at least 1 character")
        if ids.setdefault(piece, i) != i:
            raise MinigptError(f"{where}[{i}] is {shortened(piece)}, which stands at {ids[piece]} already")
        name = f"{where}: the score of {shortened(piece)}"
        checked.append((piece, float(number(name, score, at_least=-LARGEST_SCORE, at_most=LARGEST_SCORE))))
    refuse_halves(ids, where)
    return checked


def is_plain(pair):
    """Whether something is a piece and its score, as they nearly always come."""
    if type(pair) not in (list, tuple) or len(pair) != 2:
        return False
    piece, score = pair
    return type(piece) is str and piece != "" and type(score) is float and -LARGEST_SCORE <= score <= LARGEST_SCORE


def t5_template(eos):
    """tokenizer.json's post-processor for A </s>, and A </s> B </s>; eos: (token, id)."""
    around = {"SpecialToken": {"id": eos[0], "type_id": 0}}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, around]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 0}}, around]
    tokens = {eos[0]: {"id": eos[0], "ids": [eos[1]], "tokens": [eos[0]]}}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


# A vocabulary of one's own, laid out as T5's


def learn_unigram(texts, vocab_size, special_tokens, extra_ids, *, byte_fallback, keep_spaces, mixed):
    """Arguments of UnigramTokenizer for texts, see UnigramTokenizer.train."""
    from minigpt.tokenizers.unigram_training import train_pieces

    first = list(checked_special(special_tokens))
    roles = usual_roles(AddedTokens([AddedToken(token, i) for i, token in enumerate(first)]))
    for role in ("unk", "eos"):
        if role not in roles:
            names = ", ".join(map(shortened, first)) or "none"
            raise MinigptError(f"special_tokens are {names}; {shortened(USUAL[role][-1])} must be among them")
    whole("extra_ids", extra_ids, at_least=0, at_most=LARGEST_VOCABULARY)
    last = [f"<extra_id_{i}>" for i in range(extra_ids - 1, -1, -1)]
    fixed = [*first, *(BYTES if byte_fallback else ())]
    if twice := {*fixed} & {*last} | {*first} & {*BYTES}:
        raise MinigptError(f"special_tokens: {shortened(min(twice))} has a place of its own")
    around = len(fixed) + len(last)
    whole("vocab_size", vocab_size, at_least=around + 1, at_most=LARGEST_VOCABULARY)
    found = {"normalizer": T5_NORMALIZER, "pre_tokenizer": T5_PRE_TOKENIZER, "byte_fallback": byte_fallback}
    if keep_spaces:
        found |= {"normalizer": None, "pre_tokenizer": EXACT_METASPACE, "decoder": EXACT_METASPACE}
    words, beside = count_words(texts, found["normalizer"], found["pre_tokenizer"]), {*fixed, *last}
    twice = beside & set().union(*words)  # characters that are special tokens as well
    pieces = train_pieces(words, vocab_size - around + len(twice), mixed=mixed, beside=beside - twice)
    pieces = [(piece, score) for piece, score in pieces if piece not in twice]
    vocab = [*((token, 0.0) for token in fixed), *pieces, *((token, 0.0) for token in last)]
    special = {*first, *last}
    added = [AddedToken(token, i) for i, (token, _) in enumerate(vocab) if token in special]
    found |= {"vocab": vocab, "unk_id": first.index(roles["unk"]), "added": added, "roles": roles}
    if byte_fallback:
        found["decoder"] = EXACT_BYTE_DECODER if keep_spaces else BYTE_DECODER
    return found | {"post_processor": t5_template((roles["eos"], first.index(roles["eos"])))}


def count_words(texts, normalizer, pre_tokenizer):
    """A text, or an iterable of texts -> Counter of their words, normalised and with "▁" before;
    normalizer, pre_tokenizer: tokenizer.json's.
    """
    steps, metaspace, counts = normalizer_from(normalizer), metaspace_from(pre_tokenizer), Counter()
    for text in [texts] if isinstance(texts, str | bytes) or not hasattr(texts, "__iter__") else texts:
        for block in blocks(checked_text(text)):
            counts.update(metaspace.words(normalize(steps, block)))
    return counts
