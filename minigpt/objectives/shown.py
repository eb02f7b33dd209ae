"""What an objective made of a sentence, as text for a person."""

from minigpt.ops.loss import IGNORED
from minigpt.tables import text_table


def shown(tokenizer, row, masked):
    """A row of a batch before and after its tokens were hidden, and what became of each target.

    tokenizer: gives id_to_token and mask_id; row: arrays of one row, ids (1, T) and, of two
    sentences, token_type_ids and next_sentence; masked: the Masked of ids. -> str
    """
    before, after, targets = row["ids"][0], masked.ids[0], masked.targets[0]
    lines = [("text", spelt(tokenizer, before)), ("shown", spelt(tokenizer, after))]
    if "token_type_ids" in row:
        lines.append(("segments", " ".join("AB"[kind] for kind in row["token_type_ids"][0])))
        label = int(row["next_sentence"][0])
        lines.append(("next_sentence", f"{label}: B {'is from elsewhere' if label else 'follows A'}"))
    lines = [f"{name:<14} {text}" for name, text in lines]
    table = [("place", "target", "shown as", "")]
    for place in (targets != IGNORED).nonzero()[0]:
        seen = after[place]
        what = "masked" if seen == tokenizer.mask_id else "kept" if seen == targets[place] else "random"
        table.append((str(place), tokenizer.id_to_token(targets[place]), tokenizer.id_to_token(seen), what))
    return "\n".join([*lines, "", *text_table(table, left=(1, 2, 3))])


def spelt(tokenizer, ids):
    """Token ids as their spellings, a space between two."""
    return " ".join(tokenizer.id_to_token(token) for token in ids)
