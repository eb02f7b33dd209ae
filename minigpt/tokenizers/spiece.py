"""sentencepiece's own file, spiece.model or tokenizer.model, and its own way to normalise.

A tokenizer of such a file (see spiece_files) has the ids of sentencepiece. One of the
tokenizer.json that `transformers` makes of it has those of `tokenizers`, which are the same for
nearly all texts: the two take a text apart differently before they look things up (see charsmap).

sentencepiece goes on from the charsmap so: runs of spaces become one, those at both ends go, one is
put before the text, and all become "▁". No piece of a vocabulary trained the usual way has "▁"
behind its first character, so that words can be cut one by one.

Sources: Kudo and Richardson 2018 (1808.06226), section 3; sentencepiece_model.proto and
normalizer.cc of sentencepiece 0.2.3.
"""

import base64
import binascii
import contextlib
import json
import re
from pathlib import Path

import numpy as np

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.files import Missing, read_bytes, read_json
from minigpt.tokenizers.added import AddedToken, read_added_tokens
from minigpt.tokenizers.base import FILE, ROLES, Tokenizer
from minigpt.tokenizers.decoders import BYTE as BYTE_PIECE
from minigpt.tokenizers.decoders import Step
from minigpt.tokenizers.metaspace import MARK
from minigpt.tokenizers.pieces import with_more
from minigpt.tokenizers.spiece_files import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, read_spiece
from minigpt.tokenizers.unigram import UNKNOWN_PENALTY, UnigramTokenizer
from minigpt.tokenizers.unigram_files import t5_template

NAMES = ("spiece.model", "tokenizer.model")  # of the file in a folder
MOST_EXTRA_IDS = 1 << 14
EXTRA_IDS = 100  # sentinels that T5 has behind the pieces, where nothing else is said
T5_CLASSES = ("T5Tokenizer", "T5TokenizerFast", "MT5Tokenizer", "MT5TokenizerFast")
T5_MODELS = ("t5", "mt5", "umt5")
DOUBLE = re.compile(" {2,}")


class SentencePieceTokenizer(UnigramTokenizer):
    """A Unigram tokenizer of sentencepiece's file, see the top of this file."""

    kind, model_type = "sentencepiece", None
    float_code = "f"
    FILES = ("spiece.model",)

    def __init__(self, data, *, t5=False, extra_ids=0, tokens=(), roles=None, where="spiece.model"):
        """data: bytes of the file; t5: whether the end of a text is put behind it, as T5's models
        expect; extra_ids: how many sentinels come behind the pieces; tokens: more special tokens,
        contents or AddedToken; roles: role -> special token. MinigptError, which begins with
        `where`, where they are damaged or don't go together.
        """
        self.data, self.t5, self.extra_ids = data, t5, extra_ids
        self.spiece = spiece = read_spiece(data, where)
        users = sorted((p.text for p in spiece.pieces if p.type == USER_DEFINED), key=len, reverse=True)
        self._users = re.compile("|".join(map(re.escape, users))) if users else None
        self._double = spiece.charsmap is not None and b"  " in spiece.charsmap.texts
        vocab = [(piece.text, piece.score) for piece in spiece.pieces]
        vocab += [(f"<extra_id_{i}>", 0.0) for i in range(extra_ids - 1, -1, -1)]
        special = [i for i, piece in enumerate(spiece.pieces) if piece.type in (UNKNOWN, CONTROL)]
        unknown = [i for i, piece in enumerate(spiece.pieces) if piece.type == UNKNOWN]
        if len(unknown) > 1 or not (unknown or spiece.byte_fallback):
            raise MinigptError(f"{where} has {len(unknown)} pieces of type UNKNOWN, it must have 1")
        added = [AddedToken(vocab[i][0], i) for i in [*special, *range(len(spiece.pieces), len(vocab))]]
        self.more = with_more(added[:], tokens, self.ids_of(vocab))[len(added) :]
        roles = spiece.roles | (roles or {})
        around = None
        if t5:
            ids = self.ids_of(vocab)
            if (eos := roles.get("eos", "</s>")) not in ids:
                raise MinigptError(f"{where}: T5's end of a text, {shortened(eos)}, is not among the pieces")
            around = t5_template((eos, ids[eos]))
        try:
            super().__init__(vocab, unk_id=unknown[0] if unknown else None, byte_fallback=spiece.byte_fallback,
                             pre_tokenizer=None, decoder=None, added=[*added, *self.more], post_processor=around,
                             roles=roles)  # fmt: skip
        except MinigptError as error:
            raise MinigptError(f"{where}: {error}") from None
        self.decoder_steps = [SpieceDecoder(self)]

    def lattice(self):
        """piece -> score, and an unknown character's, in float32 as sentencepiece has them; a piece
        that a user defined is nearly always taken.
        """
        scores = {p.text: p.score for p in self.spiece.pieces if p.type == NORMAL}
        unknown = float(np.float32(min(scores.values())) - np.float32(UNKNOWN_PENALTY))
        for piece in self.spiece.pieces:
            if piece.type == USER_DEFINED:
                scores[piece.text] = float(np.float32(0.1 * (len(piece.text.encode()) - 1)))
        return scores, unknown

    # Text to ids

    def normalize(self, text):
        """The text that is cut into pieces."""
        spiece = self.spiece
        if not text:
            return text
        if spiece.suffix or self._users is not None or self._double:
            return self.steps(text)[0]
        if spiece.charsmap is not None:
            text = spiece.charsmap.by_longest(text)
        if spiece.remove_extra_whitespaces:
            text = DOUBLE.sub(" ", text).lstrip(" ")
        if spiece.add_dummy_prefix:
            text = f" {text}"
        text = text.replace(" ", MARK)
        return text.rstrip(MARK) if spiece.remove_extra_whitespaces else text

    def align(self, text):
        """The same, and the [start, end) in `text` that each of its characters stands for."""
        text, places = self.steps(text)
        return text, np.array(places[:-1], np.int64), np.array(places[1:], np.int64)

    def steps(self, text):
        """The normalised text, and the places in `text` of its characters and its end, a list."""
        spiece, parts, at = self.spiece, self.parts(text), 0
        removes = spiece.remove_extra_whitespaces
        first = 0
        while removes and first < len(parts) and parts[first][1] == " ":
            at, first = at + parts[first][0], first + 1
        if first == len(parts):
            return "", [0]
        found, places = [], []
        if spiece.add_dummy_prefix and not spiece.suffix:
            found, places = [MARK], [at]
        after_space = removes
        for size, new in parts[first:]:
            new = new.lstrip(" ") if after_space else new
            found.append(new.replace(" ", MARK))
            places += [at] * len(new)
            after_space = removes and (new.endswith(" ") if new else after_space)
            at += size
        found = "".join(found)
        if removes and found.endswith(MARK):
            stripped = found.rstrip(MARK)
            at, places, found = places[len(stripped)], places[: len(stripped)], stripped
        if spiece.add_dummy_prefix and spiece.suffix:
            found, places = found + MARK, [*places, at]
        return found, [*places, at]

    def parts(self, text):
        """A text -> [(length of a part, what it becomes)]; what a user defined stays as it is."""
        charsmap, users = self.spiece.charsmap, self._users
        parts, at = [], 0
        while at < len(text):
            if users is not None and (match := users.match(text, at)):
                end, new = match.end(), match.group()
            else:
                end, new = (at + 1, text[at]) if charsmap is None else charsmap.longest(text, at)
            parts.append((end - at, new))
            at = end
        return parts

    # Files

    def values(self):
        """What `from_values` needs, as a dict for JSON."""
        more = [{"id": token.id} | token._asdict() for token in self.more]
        own = {"file": base64.b64encode(self.data).decode(), "t5": self.t5, "extra_ids": self.extra_ids}
        return own | {"added_tokens": more, "roles": self.roles}

    def to_json(self):
        """The tokenizer as JSON text, of our own form: tokenizer.json can't say how sentencepiece
        normalises.
        """
        return Tokenizer.to_json(self)

    @classmethod
    def from_values(cls, values):
        """A tokenizer from files.Values. MinigptError where they are not such a one's."""
        values.refuse_unknown(("type", "file", "t5", "extra_ids", "added_tokens", "roles"))
        try:
            data = base64.b64decode(values.text("file").encode(), validate=True)
        except (binascii.Error, ValueError):
            raise MinigptError(f"{values.where}: file is not base64") from None
        roles = values.section("roles")
        roles.refuse_unknown(ROLES)
        extra_ids = values.whole("extra_ids", at_least=0, at_most=MOST_EXTRA_IDS)
        settings = {"t5": values.flag("t5"), "extra_ids": extra_ids}
        settings["roles"] = {role: roles.text(role) for role in roles}
        return cls(data, tokens=read_added_tokens(values), where=values.where, **settings)

    from_json = classmethod(lambda cls, text, where="tokenizer": Tokenizer.from_json.__func__(cls, text, where))

    def files(self):
        """name -> text or bytes of the files that `save` writes: sentencepiece's own, and what
        `transformers` has to know beside it.
        """
        config = json.loads(super().files()["tokenizer_config.json"])
        del config["tokenizer_class"]
        if self.t5:
            config |= {"tokenizer_class": "T5Tokenizer", "extra_ids": self.extra_ids}
        return {"spiece.model": self.data, "tokenizer_config.json": json.dumps(config, indent=1)}

    def save(self, directory):
        """Write spiece.model and tokenizer_config.json into a folder. MinigptError where something
        else is there that would be read in their place.
        """
        path = Path(directory)
        if (path / FILE).exists():
            raise MinigptError(f"{path / FILE} is there, which is read in place of spiece.model: remove it first")
        with contextlib.suppress(Missing):
            if "format_version" in read_json(path / "config.json"):
                raise MinigptError(f"{path} has a checkpoint: save the model with its tokenizer, as one")
        super().save(directory)

    @classmethod
    def is_in(cls, directory):
        """Whether a folder has the file."""
        return any((directory / name).exists() for name in NAMES)

    @classmethod
    def from_file(cls, path, **arguments):
        """A tokenizer of sentencepiece's file; the arguments are those of the class."""
        return cls(read_bytes(path), where=str(path), **arguments)

    @classmethod
    def from_folder(cls, directory, config, roles, tokens):
        """A tokenizer of a folder with the file, and perhaps tokenizer_config.json and config.json:
        T5's where these say so; see folder.read_folder.
        """
        path = next(directory / name for name in NAMES if (directory / name).exists())
        t5 = is_t5(directory, config)
        extra_ids = EXTRA_IDS if t5 else 0
        if config is not None:
            extra_ids = config.whole("extra_ids", at_least=0, at_most=MOST_EXTRA_IDS, default=extra_ids)
        return cls.from_file(path, t5=t5, extra_ids=extra_ids, tokens=tokens, roles=roles)


def is_t5(directory, config):
    """Whether the tokenizer in a folder is T5's; config: files.Values of tokenizer_config.json or
    None. MinigptError where the folder names another class, which would change pieces and ids.
    """
    name = None if config is None else config.text("tokenizer_class", default=None)
    if name is not None:
        if name not in T5_CLASSES:
            raise MinigptError(f"{config.where}: tokenizer_class is {shortened(name)}, computed is {T5_CLASSES[0]}")
        return True
    with contextlib.suppress(Missing):
        model = read_json(directory / "config.json")
        if "format_version" not in model and (name := model.text("model_type", default=None)) is not None:
            if name not in T5_MODELS:
                wanted = f"{model.where}: model_type is {shortened(name)}"
                raise MinigptError(f"{wanted}, of sentencepiece's files computed is {', '.join(T5_MODELS)}")
            return True
    return False


class SpieceDecoder(Step):
    """Pieces to a text as sentencepiece does it; special tokens, which it leaves out, are shown."""

    def __init__(self, tokenizer):
        self.unk, self.surface = tokenizer.spiece.roles.get("unk"), tokenizer.spiece.unk_surface
        spiece = tokenizer.spiece
        self.bytes, self.held = spiece.byte_fallback, b""
        self.strips = spiece.add_dummy_prefix or spiece.remove_extra_whitespaces
        self.strips_all, self.begun = spiece.remove_extra_whitespaces, False

    def push(self, tokens):
        """See decoders.Step."""
        texts = []
        for token in tokens:
            if self.bytes and BYTE_PIECE.fullmatch(token):
                self.held += bytes([int(token[3:5], 16)])
                continue
            texts += self.end()
            stripped = self.strips and not self.begun and token.startswith(MARK)
            text = token[1:] if stripped else token
            texts.append(self.surface if token == self.unk else text.replace(MARK, " "))
            self.begun = self.begun or bool(texts[-1]) or (stripped and not self.strips_all)
        return texts

    def end(self):
        """See decoders.Step: bytes one character at a time, U+FFFD for one that belongs to none."""
        held, self.held, texts = self.held, b"", []
        while held:
            size = next((n for n in range(1, 5) if is_character(held[:n])), 0)
            texts.append(held[:size].decode() if size else "\ufffd")
            held = held[size or 1 :]
        self.begun = self.begun or bool(texts)
        return texts


def is_character(data):
    """Whether bytes are one character in UTF-8."""
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False
