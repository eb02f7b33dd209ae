"""A text that comes in parts, such as a pipe, to ids in little memory."""

import numpy as np

PART = 1 << 20  # characters that are waited for before some are encoded


def encode_parts(tokenizer, parts, special=False):
    """Parts of a text, an iterable of strings -> ids of the whole text, arrays one after the other,
    as `encode` gives them at once.

    A text is cut before a space or a line end that follows something else, where no word of this
    tokenizer goes on there. Where one may, or an added token, all parts are taken together.
    """
    template = tokenizer.template.single if special else ()
    before = [part.ids for part in template[: 1 + next((i for i, p in enumerate(template) if p.text), -1)]]
    yield np.array([i for ids in before for i in ids], np.int64)
    whole = any(
        token.rstrip or len(token.content.split()) > 1 or token.content[-1:].isspace() for token in added(tokenizer)
    )
    ends = tokenizer.cut_before
    whole = whole or not ends
    held = []  # parts of which the end is not yet known to be the end of a word
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size > PART and not whole:
            text = "".join(held)
            cut = last_cut(text, ends)
            if cut:
                yield tokenizer.text_ids(text[:cut], special)
            held = [text[cut:]]
            size = len(held[0])
    yield tokenizer.text_ids("".join(held), special)
    after = [part.ids for part in template[len(before) :]]
    yield np.array([i for ids in after for i in ids], np.int64)


def added(tokenizer):
    """The added tokens of any tokenizer."""
    return tokenizer.added.tokens if hasattr(tokenizer, "added") else []


def last_cut(text, ends):
    """The last place before one of `ends` that follows no white space, 0 for none."""
    found = 0
    for end in ends:
        at = text.rfind(end)
        while at > 0 and text[at - 1].isspace():
            at = text.rfind(end, 0, at)
        found = max(found, at)
    return found
