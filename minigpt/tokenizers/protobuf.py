"""Messages of Protocol Buffers, read by hand: as much as sentencepiece's files need.

A message is a row of fields: a key, which is 8 * number + wire type, and a value. Whole numbers,
keys among them, are varints: seven bits a byte, the lowest first, the top bit says that another
byte follows. Wire type 0 is a varint, 1 and 5 are eight and four bytes, 2 is a length and so many
bytes: a text, or a message within.

>>> list(fields(b"\\x0a\\x03abc\\x18\\x96\\x01", "example"))
[(1, 2, b'abc'), (3, 0, 150)]

Source: protobuf.dev, "Encoding".
"""

import struct

from minigpt.checks import shortened
from minigpt.errors import MinigptError

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5  # wire types
HIGHEST = 100  # number of a field that is kept: memory is not for those that nobody asks for
MOST = 1 << 22  # fields of one number


def varint(data, at, where):
    """The whole number at a place, and the place after it. MinigptError where it doesn't end."""
    number = shift = 0
    for i in range(at, min(len(data), at + 10)):
        number |= (data[i] & 0x7F) << shift
        if data[i] < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, i + 1
        shift += 7
    raise MinigptError(f"{where}: a number at byte {at:,} of {len(data):,} does not end")


def fields(data, where):
    """The fields of a message, bytes -> (number, wire type, value): an int for a varint, else
    bytes. MinigptError for one that is cut off, or of a wire type that isn't known.
    """
    at, size = 0, len(data)
    while at < size:
        key, at = (data[at], at + 1) if data[at] < 0x80 else varint(data, at, where)  # most are one byte
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise MinigptError(f"{where}: a field at byte {at:,} has the number {number}")
        if wire == VARINT:
            value, at = varint(data, at, where)
        elif wire in (EIGHT, FOUR, BYTES):
            if wire != BYTES:
                length = 8 if wire == EIGHT else 4
            else:
                length, at = varint(data, at, where)
            if length > size - at:
                raise MinigptError(f"{where}: field {number} has {length:,} bytes, {size - at:,} are left")
            value, at = data[at : at + length], at + length
        else:
            raise MinigptError(f"{where}: field {number} at byte {at:,} has the unknown wire type {wire}")
        yield number, wire, value


class Message:
    """The fields of one message, each taken by its number: of one that stands several times the
    last, as Protocol Buffers have it.
    """

    def __init__(self, data, where, several=()):
        """data: bytes; several: numbers of fields of which all are kept. MinigptError where they
        are no message.
        """
        self.where, self.found, self.all = where, {}, {number: [] for number in several}
        for number, wire, value in fields(data, where):
            if number in self.all:
                if len(self.all[number]) >= MOST:
                    raise MinigptError(f"{where}: field {number} stands more than {MOST:,} times")
                self.all[number].append((wire, value))
            elif number <= HIGHEST:
                self.found[number] = wire, value

    def take(self, number, wire, name, default):
        """The last value of a field. MinigptError where it has another wire type."""
        if number not in self.found:
            return default
        given, value = self.found[number]
        if given != wire:
            raise MinigptError(f"{self.where}: {name} has the wire type {given}, it must be {wire}")
        return value

    def whole(self, number, name, default):
        """An int32."""
        value = self.take(number, VARINT, name, default)
        value = value - (1 << 64) if value >= 1 << 63 else value
        if not -1 << 31 <= value < 1 << 31:
            raise MinigptError(f"{self.where}: {name} is {value}, it must be a number of 32 bits")
        return value

    def flag(self, number, name, default):
        """A bool."""
        return bool(self.take(number, VARINT, name, default))

    def number(self, number, name, default):
        """A float of four bytes."""
        value = self.take(number, FOUR, name, None)
        return default if value is None else struct.unpack("<f", value)[0]

    def data(self, number, name, default=b""):
        """Bytes."""
        return self.take(number, BYTES, name, default)

    def text(self, number, name, default):
        """A text. MinigptError where it is no UTF-8."""
        value = self.take(number, BYTES, name, None)
        if value is None:
            return default
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise MinigptError(f"{self.where}: {name} is {shortened(value)}, which is not UTF-8") from None

    def messages(self, number, name):
        """All bytes of a field, each a message of its own."""
        for wire, value in self.all[number]:
            if wire != BYTES:
                raise MinigptError(f"{self.where}: {name} has the wire type {wire}, it must be {BYTES}")
            yield value

    def message(self, number, name):
        """A message within; where it stands several times, it is all of them one after another."""
        return Message(b"".join(self.messages(number, name)), f"{self.where}: {name}")
