"""sentencepiece's files for tests, written by hand."""

import struct

from charsmaps import charsmap_bytes

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def varint(number):
    """A whole number as Protocol Buffers write it; negative ones as 64 bits."""
    number &= (1 << 64) - 1
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number, value):
    """A field: of an int or bool a varint, of a float four bytes, else its length and bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(fields):
    """{number: value} -> bytes."""
    return b"".join(field(number, value) for number, value in fields.items())


def spiece(pieces, trainer=(), normalizer=(), charsmap=None):
    """[(piece, score, type)], fields of trainer_spec and normalizer_spec, and what texts become ->
    bytes of a file.
    """
    data = b"".join(field(1, message({1: text, 2: score, 3: kind})) for text, score, kind in pieces)
    normalizer = dict(normalizer) | ({} if charsmap is None else {2: charsmap_bytes(charsmap)})
    return data + field(2, message(dict(trainer))) + field(3, message(normalizer))


SPECIAL = [("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)]
PIECES = [("▁", -2.0), ("▁the", -3.0), ("t", -4.0), ("h", -4.5), ("e", -3.5), ("s", -3.75), ("he", -5.0), ("a", -3.0)]
PIECES += [("▁snail", -6.0), ("ai", -6.5), ("n", -4.25), ("é", -6.0), (".", -4.0), ("<", -8.0), ("aa", -6.0)]
PIECES += [("il", -5.125), ("ff", -7.0), ("f", -3.5), ("i", -4.0), ("l", -4.0), ("▁▁", -9.0)]
NORMALS = [(piece, score, NORMAL) for piece, score in PIECES]
BYTES = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
CHARSMAP = {"ﬁ": "fi", "e\u0301": "é", "\t": " ", "\x01": "", "…": "...", "\u3000": " ", "ﷺ": "a s", "\u2003": "  "}
CHARSMAP |= {"a\u0301": "á", "\u0301": "'"}
VARIANTS = {  # name -> bytes
    "T5": spiece([*SPECIAL, *NORMALS], charsmap=CHARSMAP),
    "no charsmap": spiece([*SPECIAL, *NORMALS]),
    "bytes": spiece([*SPECIAL, *BYTES, *NORMALS], {35: True}, charsmap=CHARSMAP),
    "spaces stay": spiece([*SPECIAL, *NORMALS], (), {4: False}, charsmap=CHARSMAP),
    "no prefix": spiece([*SPECIAL, *NORMALS], (), {3: False}, charsmap=CHARSMAP),
    "neither": spiece([*SPECIAL, *NORMALS], (), {3: False, 4: False}),
    "suffix": spiece([*SPECIAL, *NORMALS[:-1], ("the▁", -3.0, NORMAL), ("s▁", -4.0, NORMAL)], {24: True}),
    "users": spiece(
        [*SPECIAL, *NORMALS, ("snail", 0.0, USER_DEFINED), ("e  s", 0.0, USER_DEFINED), ("▁the▁s", -1.0, UNUSED)],
        charsmap=CHARSMAP,
    ),
    "surface": spiece([*SPECIAL, *NORMALS, ("e▁t", -3.0, NORMAL)], {44: "[?]"}, charsmap=CHARSMAP),
}
