"""What a model expects around a text: `[CLS] A [SEP] B [SEP]`, and which part a token belongs to.

The post-processors of tokenizer.json that BERT, RoBERTa and GPT-2 use, read into one form: a list
of parts for one text and another for two, where a part is a text ("A" or "B") or ids, with its
token type.
"""

from typing import NamedTuple

from minigpt.checks import one_of, shortened, whole
from minigpt.errors import MinigptError
from minigpt.files import Values, kind


class Part(NamedTuple):
    """A text or tokens in a template."""

    text: str | None  # "A", "B", or None for ids
    ids: tuple  # of the special tokens that stand here
    token_type: int


A, B = Part("A", (), 0), Part("B", (), 1)


class Template(NamedTuple):
    """What stands around one text and two, and what is done to offsets."""

    single: tuple = (A,)  # of Part
    pair: tuple = (A, B)
    trim_offsets: bool = False  # byte-level BPE: offsets without the spaces around a word
    add_prefix_space: bool = False  # whether the first space of a text is one that was put there
    source: dict | None = None  # as tokenizer.json has it

    def special_count(self, pair):
        """How many tokens stand around one text, or two."""
        return sum(len(part.ids) for part in (self.pair if pair else self.single))


def read_template(values, key, token_id):
    """The Template in files.Values under a key; token_id(token) -> id or None.

    MinigptError where it is none, names a token that isn't in the vocabulary or has another id
    there, or a post-processor that isn't known.
    """
    section = values.section(key, default=None)
    return Template() if section is None else template_of(section, token_id)


def template_of(section, token_id, within=False):
    """The Template of one post-processor in files.Values; within: in a Sequence, which holds no
    other.
    """
    name = section.one_of("type", tuple(READERS)[:-1] if within else tuple(READERS))
    template = READERS[name](section, token_id)
    return template._replace(source=dict(section.items()))


def read_byte_level(section, token_id):
    """ByteLevel: nothing is put around."""
    section.refuse_unknown({"type", "add_prefix_space", "trim_offsets", "use_regex"})
    section.flag("use_regex", default=True)
    prefix, trim = section.flag("add_prefix_space", default=True), section.flag("trim_offsets", default=True)
    return Template(trim_offsets=trim, add_prefix_space=prefix)


def read_bert(section, token_id):
    """BertProcessing: [CLS] A [SEP] B [SEP], B and what follows it of type 1."""
    section.refuse_unknown({"type", "sep", "cls"})
    cls, sep = special(section, "cls", token_id), special(section, "sep", token_id)
    single = (Part(None, cls, 0), A, Part(None, sep, 0))
    return Template(single, (*single, B, Part(None, sep, 1)))


def read_roberta(section, token_id):
    """RobertaProcessing: <s> A </s></s> B </s>, all of type 0."""
    section.refuse_unknown({"type", "sep", "cls", "trim_offsets", "add_prefix_space"})
    prefix, trim = section.flag("add_prefix_space", default=True), section.flag("trim_offsets", default=True)
    cls, sep = special(section, "cls", token_id), special(section, "sep", token_id)
    single = (Part(None, cls, 0), A, Part(None, sep, 0))
    return Template(single, (*single, Part(None, sep, 0), B._replace(token_type=0), single[2]), trim, prefix)


def special(section, key, token_id):
    """["</s>", 2] -> (2,)"""
    token, number = section.list(key, length=2)
    kind(f"{section.where}: {key}[0]", token, str, words="a string")
    return (checked_id(f"{section.where}: {key}", token, number, token_id),)


def checked_id(where, token, number, token_id):
    """An id that a file gives a token, where the vocabulary has the same. MinigptError for
    another.
    """
    whole(where, number, at_least=0)
    if (found := token_id(token)) != number:
        really = "is not in the vocabulary" if found is None else f"has the id {found} in the vocabulary"
        raise MinigptError(f"{where} gives {shortened(token)} the id {number}, which {really}")
    return int(number)


def read_parts(section, token_id):
    """TemplateProcessing: two lists of parts, and the ids of the special tokens that they name."""
    section.refuse_unknown({"type", "single", "pair", "special_tokens"})
    named, ids = section.section("special_tokens"), {}
    for name, _ in named.items():
        token = named.section(name)
        token.refuse_unknown({"id", "ids", "tokens"})
        texts, numbers = token.texts("tokens"), token.list("ids")
        if len(texts) != len(numbers):
            raise MinigptError(f"{token.where} has {len(texts)} tokens and {len(numbers)} ids")
        ids[name] = tuple(checked_id(token.where, t, number, token_id) for t, number in zip(texts, numbers))
    single = read_list(section, "single", ids, ["A"])
    pair = read_list(section, "pair", ids, ["A", "B"], default=[A, B])
    return Template(single, pair)


def read_list(section, key, ids, texts, default=None):
    """One list of a TemplateProcessing -> Parts; `texts` must stand in it, each once."""
    parts = []
    for part in section.sections(key):
        if len(part) != 1:
            raise MinigptError(f"{part.where} has {len(part)} entries, it must have 1, SpecialToken or Sequence")
        name = one_of(part.where, *part, ("SpecialToken", "Sequence"))
        content = part.section(name)
        content.refuse_unknown({"id", "type_id"})
        token_type = content.whole("type_id", at_least=0, at_most=1 << 20)
        if name == "Sequence":
            parts.append(Part(content.one_of("id", ("A", "B")), (), token_type))
        else:
            if (token := content.text("id")) not in ids:
                raise MinigptError(f"{content.where}: id is {shortened(token)}, which is not in special_tokens")
            parts.append(Part(None, ids[token], token_type))
    if not parts and default:
        return tuple(default)
    found = [part.text for part in parts if part.text]
    if sorted(found) != texts:
        raise MinigptError(f"{section.where}: {key} holds the texts {found}, it must hold {' and '.join(texts)} once")
    return tuple(parts)


def read_sequence(section, token_id):
    """Sequence: some post-processors, of which one may put tokens around a text."""
    section.refuse_unknown({"type", "processors"})
    template = Template()
    for part in section.sections("processors"):
        other = template_of(part, token_id, within=True)
        if other.special_count(True) and template.special_count(True):
            raise MinigptError(f"{section.where}: two of its processors add tokens, one may")
        if other.trim_offsets:
            template = template._replace(trim_offsets=True, add_prefix_space=other.add_prefix_space)
        if other[:2] != Template()[:2]:
            template = template._replace(single=other.single, pair=other.pair)
    return template


READERS = {
    "ByteLevel": read_byte_level,
    "BertProcessing": read_bert,
    "RobertaProcessing": read_roberta,
    "TemplateProcessing": read_parts,
    "Sequence": read_sequence,  # the last: it doesn't stand in another
}


# What our own tokenizers say


def roberta_processing(cls, sep, add_prefix_space=False):
    """tokenizer.json's post-processor for <s> A </s></s> B </s>; cls and sep: (token, id)."""
    source = {"type": "RobertaProcessing", "sep": list(sep), "cls": list(cls)}
    return source | {"trim_offsets": True, "add_prefix_space": add_prefix_space}


def bert_template(cls, sep):
    """tokenizer.json's post-processor for [CLS] A [SEP] B [SEP]; cls and sep: (token, id)."""

    def token(pair, token_type):
        return {"SpecialToken": {"id": pair[0], "type_id": token_type}}

    single = [token(cls, 0), {"Sequence": {"id": "A", "type_id": 0}}, token(sep, 0)]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, token(sep, 1)]
    tokens = {text: {"id": text, "ids": [number], "tokens": [text]} for text, number in (cls, sep)}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def template_from(source, token_id):
    """The Template of a post-processor that this program made, None for none."""
    return Template() if source is None else template_of(Values(source, "post_processor"), token_id)
