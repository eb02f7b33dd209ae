"""sentencepiece's file, a message of Protocol Buffers: pieces with scores and types, how they were
trained, and how a text is normalised. Numbers of fields are those of sentencepiece_model.proto.
"""

from typing import NamedTuple

from minigpt.checks import shortened
from minigpt.errors import MinigptError
from minigpt.tokenizers.added import LARGEST_VOCABULARY
from minigpt.tokenizers.charsmap import Charsmap
from minigpt.tokenizers.protobuf import Message
from minigpt.tokenizers.unigram_files import BYTES

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces
LONGEST = 8000  # bytes of a piece
LARGEST_FILE = 1 << 26  # bytes: those of 250,000 pieces have some 5 MB
MODELS = {1: "UNIGRAM", 2: "BPE", 3: "WORD", 4: "CHAR"}


class Piece(NamedTuple):
    """One piece of the file."""

    text: str
    score: float
    type: int


class Spiece(NamedTuple):
    """What a file says."""

    pieces: list  # of Piece
    roles: dict  # role -> piece
    unk_surface: str  # how an unknown token is decoded
    byte_fallback: bool
    suffix: bool  # whether the space that is put to a text stands behind it
    charsmap: Charsmap | None
    add_dummy_prefix: bool  # whether one is put there
    remove_extra_whitespaces: bool


def read_spiece(data, where):
    """Bytes of a file -> Spiece. MinigptError where they are damaged, or ask for what isn't
    computed.
    """
    if len(data) > LARGEST_FILE:
        raise MinigptError(f"{where} has {len(data):,} bytes, it may have at most {LARGEST_FILE:,}")
    model = Message(data, where, several=(1, 2, 3, 5))
    trainer, normalizer = model.message(2, "trainer_spec"), model.message(3, "normalizer_spec")
    name = trainer.whole(3, "model_type", 1)
    if name != 1:
        raise MinigptError(f"{where}: model_type is {MODELS.get(name, name)}, computed is UNIGRAM")
    if not normalizer.flag(5, "escape_whitespaces", True):
        raise MinigptError(f"{where}: escape_whitespaces is false, which is not computed")
    if model.message(5, "denormalizer_spec").data(2, "precompiled_charsmap"):
        raise MinigptError(f"{where}: denormalizer_spec has a charsmap, which is not computed")
    pieces = read_pieces(model, where)
    byte_fallback, found = trainer.flag(35, "byte_fallback", False), {p.text for p in pieces if p.type == BYTE}
    if found and not byte_fallback:
        raise MinigptError(f"{where} has the byte {min(found)}, although byte_fallback is false")
    if byte_fallback and (missing := [byte for byte in BYTES if byte not in found]):
        raise MinigptError(f"{where}: byte_fallback is true, the byte {missing[0]} is missing")
    roles = {}
    for number, role, usual in ((45, "unk", "<unk>"), (46, "bos", "<s>"), (47, "eos", "</s>"), (48, "pad", "<pad>")):
        roles[role] = trainer.text(number, f"{role}_piece", usual)
    special = {piece.text: piece.type for piece in pieces if piece.type in (UNKNOWN, CONTROL)}
    charsmap = normalizer.data(2, "precompiled_charsmap")
    return Spiece(
        pieces,
        {role: token for role, token in roles.items() if special.get(token) == (UNKNOWN if role == "unk" else CONTROL)},
        trainer.text(44, "unk_surface", " \u2047 "),
        byte_fallback,
        trainer.flag(24, "treat_whitespace_as_suffix", False),
        Charsmap(charsmap, f"{where}: precompiled_charsmap") if charsmap else None,
        normalizer.flag(3, "add_dummy_prefix", True),
        normalizer.flag(4, "remove_extra_whitespaces", True),
    )


def read_pieces(model, where):
    """The Pieces of a file's Message, in the order of their ids. MinigptError for those that
    sentencepiece refuses as well.
    """
    pieces, ids = [], {}
    for i, data in enumerate(model.messages(1, "pieces")):
        if i >= LARGEST_VOCABULARY:
            raise MinigptError(f"{where} has more than {LARGEST_VOCABULARY:,} pieces")
        name = f"{where}: pieces[{i}]"
        message = Message(data, name)
        text, score = message.text(1, "piece", ""), message.number(2, "score", 0.0)
        piece = Piece(text, score, message.whole(3, "type", NORMAL))
        if not text or len(text.encode()) >= LONGEST:
            raise MinigptError(f"{name} has {len(text.encode()):,} bytes, it must have 1 to {LONGEST - 1:,}")
        if "\0" in text and piece[::2] != ("\0", UNUSED):
            raise MinigptError(f"{name} is {shortened(text)}, no piece has a NUL")
        if not NORMAL <= piece.type <= BYTE:
            raise MinigptError(f"{name}, {shortened(text)}: type is {piece.type}, it must be {NORMAL} to {BYTE}")
        if piece.type == BYTE and text not in BYTES:
            raise MinigptError(f"{name} is {shortened(text)}, a byte is <0x00> to <0xFF>")
        if ids.setdefault(text, i) != i:
            raise MinigptError(f"{name} is {shortened(text)}, which stands at {ids[text]} already")
        pieces.append(piece)
    if not any(piece.type == NORMAL for piece in pieces):
        raise MinigptError(f"{where} has no normal piece")
    return pieces
