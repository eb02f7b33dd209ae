"""Charsmaps for tests: the writer of what the library reads, small and slow."""

import base64
import struct


def charsmap_bytes(table):
    """{text: what it becomes} -> sentencepiece's form of it."""
    texts, places = b"", {}
    for becomes in table.values():
        if becomes not in places:
            places[becomes] = len(texts)
            texts += becomes.encode() + b"\0"
    root = {}
    for text, becomes in table.items():
        node = root
        for byte in text.encode():
            node = node.setdefault(byte, {})
        node[0] = places[becomes]
    units, used, bases = {0: 0}, {0}, set()

    def place(node, at):
        free = (b for b in range(1, 1 << 20) if b not in bases)
        base = next(b for b in free if not any(b ^ label in used for label in node))
        bases.add(base)
        used.update(base ^ label for label in node)
        units[at] = units[at] | (at ^ base) << 10 | (0x100 if 0 in node else 0)
        for label, child in node.items():
            units[base ^ label] = 0x80000000 | child if label == 0 else label
        for label, child in node.items():
            if label:
                place(child, base ^ label)

    place(root, 0)
    size = (max(units) // 256 + 1) * 256
    array = struct.pack(f"<{size}I", *(units.get(i, 0x80000000) for i in range(size)))
    return struct.pack("<I", len(array)) + array + texts


def precompiled(table):
    """The normalizer of tokenizer.json."""
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap_bytes(table)).decode()}
