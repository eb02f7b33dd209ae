"""What a drawing of a family is made of, read off the layers that its config wires and the lines of
its table: boxes from ids to loss, who sees whom, and how many numbers each part learns.
"""

from typing import NamedTuple

import numpy as np

from minigpt import models
from minigpt.explain.counts import PARTS
from minigpt.explain.family import Family
from minigpt.explain.sizes import blocks_of, counts_of, with_blocks, with_head
from minigpt.layers import Embedding, LayerNorm, LearnedPositions, PreNormBlock
from minigpt.ops.attention import Mask

SHOWN = 8  # tokens in the picture of a mask
ACTIVATIONS = {"gelu_tanh": "GELU (tanh form)", "gelu": "GELU (erf)", "relu": "ReLU", "silu": "SiLU"}


class Box(NamedTuple):
    """One box of the drawing."""

    title: str
    note: str = ""  # a formula or sizes
    changed: bool = False  # differs from what the family is compared with
    small: bool = False


class MaskPicture(NamedTuple):
    """Who sees whom."""

    title: str
    visible: np.ndarray  # (T, S) bool
    padding: int = 0  # of the keys, the last so many
    changed: bool = False


class Stack(NamedTuple):
    """One stack of blocks and what belongs to it alone, from top to bottom."""

    name: str  # empty where there is no other
    embeddings: tuple  # (input, table) pairs of Box, which are added up; a table of two stacks is one
    before: tuple  # of Box, between the sum and the blocks
    n_blocks: int
    branches: tuple  # tuples of Box: of each layer of a block, with its norm and dropout
    pre_norm: bool  # the norm stands before a branch's layer; otherwise after the sum
    after: tuple  # of Box, between the blocks and what reads them
    bias: Box | None = None  # one table, which all blocks add to the scores of their first layer
    reads: int | None = None  # which branch reads the end of the stack before


class Drawing(NamedTuple):
    """All that is drawn of a family: stacks side by side, heads below the last of them."""

    title: str
    against: str | None  # what "changed" means; None where nothing is coloured
    stacks: tuple
    heads: tuple  # tuples of Box, side by side, each down to its loss
    masks: tuple  # of MaskPicture
    counts: dict  # part -> how many numbers


class Look(NamedTuple):
    """What the boxes are made from."""

    family: Family
    config: object
    layers: dict
    changed: set  # parts that are drawn in the other colour

    def box(self, title, note, *parts, small=False):
        """A Box, changed where one of its parts is."""
        return Box(title, note, not self.changed.isdisjoint(parts), small)


def drawing(family, config):
    """The Drawing of a family at a config."""
    if family.heads and config.head is None:
        config = with_head(config, family.heads[1])
    changed = family.changed if family.against == "GPT-2" else set()
    look = Look(family, config, models.family(family.model_type).wire(one_of_each(config, family)), changed)
    counts = counts_of(family, config)
    return Drawing(
        title=f"{family.title}, from ids to loss",
        against=family.against if changed else None,
        stacks=(only_stack(look),),
        heads=heads(look),
        masks=masks(look),
        counts={part: counts[part] for part in PARTS if counts[part]},
    )


def only_stack(look):
    """The stack of a family that has one."""
    names = list(look.layers)
    at = names.index("blocks")
    return Stack(
        name="",
        embeddings=tuple(embedding(look, name) for name in names[:at] if is_table(look.layers[name])),
        before=(
            *(norm(look, layer, "embedding norm") for layer in some(look, names[:at], LayerNorm)),
            look.box("dropout", "", "embedding dropout", small=True),
        ),
        n_blocks=blocks_of(look.family, look.config)[0],
        branches=branches(look),
        pre_norm=isinstance(look.layers["blocks"][0], PreNormBlock),
        after=tuple(norm(look, look.layers[name], "final norm") for name in names[at:] if name == "ln_f"),
    )


def one_of_each(config, family):
    """A config as good as another for a drawing, of a few blocks."""
    numbers = blocks_of(family, config)
    return config if max(numbers) <= 64 else with_blocks(family, config, [min(n, 4) for n in numbers])


def is_table(layer):
    """Whether a layer is a table that the input looks up in."""
    return isinstance(layer, Embedding | LearnedPositions)


def some(look, names, kind):
    """The layers of a kind among those of some names."""
    return [look.layers[name] for name in names if isinstance(look.layers[name], kind)]


def embedding(look, name):
    """A table, and what is looked up in it."""
    layer = look.layers[name]
    size = " × ".join(f"{n:,}" for n in layer.weight.shape)
    title, source, part = {
        "wte": ("ids", "(B, T)", "tokens"),
        "wpe": ("positions", look.family.positions, "positions"),
        "token_types": ("token types", "all 0" if layer.weight.shape[0] == 1 else "0 or 1: which text", "token types"),
    }[name]
    return look.box(title, source, part), look.box(name, size, part)


def norm(look, layer, *parts):
    """A LayerNorm."""
    return look.box("LayerNorm", "ε = " + f"{layer.eps:g}".replace("e-0", "e-"), *parts)


def branches(look):
    """The two branches of a block, in the order of its code."""
    block = look.layers["blocks"][0]
    attn, mlp = block.attn, block.mlp
    scale = f" / √{attn.head_channels}" if attn.scale is None else "" if attn.scale == 1 else f" · {attn.scale:g}"
    biases = "" if attn.c_attn.bias else "; q, k, v without biases"
    attention = look.box(
        f"attention, {attn.n_head} heads of {attn.head_channels}",
        f"softmax(q kᵀ{scale}) v{biases}",
        "attention", "scores", "q, k, v", "blocks", "padding",
    )  # fmt: skip
    C, F = mlp.c_fc.weight.shape
    parts = ("MLP", "GELU", "MLP width") if F != 4 * C else ("MLP", "GELU")
    feed = look.box(f"MLP, {C:,} → {F:,} → {C:,}", f"with {ACTIVATIONS[mlp.activation]} inside", *parts)
    dropout = look.box("dropout", "", "dropout", small=True)
    out = []
    for layer, middle in ((block.ln_1, attention), (block.ln_2, feed)):
        beside = norm(look, layer, "norms", "epsilon")
        pre_norm = isinstance(block, PreNormBlock)
        out.append((beside, middle, dropout) if pre_norm else (middle, dropout, beside))
    return tuple(out)


def heads(look):
    """The heads side by side, each down to its loss."""
    layers = look.layers
    if "head" in layers:  # of a decoder
        note = "logits = x @ wteᵀ, tied" if look.config.tie_embeddings else "logits = x @ W"
        return ((look.box("head", note, "head"), look.box("loss", look.family.loss, "loss")),)
    chains = []
    if layers["masked_lm"] is not None:
        decoder = "@ wteᵀ + bias, tied" if look.config.tie_embeddings else "@ W + bias"
        activation = ACTIVATIONS[layers["masked_lm"].activation].partition(" ")[0]
        chains.append((
            look.box("transform", f"{activation}(x @ W + b), LayerNorm", "transform", "transform's GELU"),
            look.box("masked-LM head", decoder, "head bias"),
            look.box("loss", "at the masked tokens alone", "masked positions", "targets"),
        ))  # fmt: skip
    pooled = (look.box("pooler", "tanh(x[:, 0] @ W + b)", "pooler", "tanh"),) if layers["pooler"] else ()
    if layers["next_sentence"] is not None:
        follows = look.box("next-sentence head", "@ W + b, (B, 2)", "next sentence")
        chains.append((*pooled, follows, look.box("loss", "does B follow A?", "next sentence", "second segment")))
    elif layers["classifier"] is not None:
        title = "classifier" if look.config.head == "sequence_classification" else "classifier of tokens"
        classifier = look.box(title, f"{look.config.num_labels} labels", "classification", "classifier dropout")
        chains.append((*pooled, classifier, look.box("loss", "cross-entropy of the label", "classification")))
    elif layers["spans"] is not None:
        spans = look.box("answer head", "starts, ends = x @ W + b", "answers")
        chains.append((spans, look.box("loss", "mean of two cross-entropies", "answers' loss")))
    elif not chains:
        chains.append(pooled)
    return tuple(chains)


def masks(look):
    """Who sees whom: a picture for each kind of block."""
    found = {}
    for i, block in enumerate(look.layers["blocks"]):
        attn = block.attn
        found.setdefault((attn.causal, attn.window), []).append(i)
    out = []
    for (causal, window), blocks in found.items():
        shown = None if window is None else min(window, 3)
        which = "" if len(found) == 1 else f"blocks {', '.join(map(str, blocks[:3]))}, …: "
        what = "all before it" if causal and window is None else f"the last {window}" if causal else "all of the text"
        padding = 0 if causal else 2
        keys = np.arange(SHOWN)[None] < SHOWN - padding
        visible = Mask(causal, shown, keys).visible(SHOWN, SHOWN)[0, 0]
        changed = "attention" in look.changed and not (causal and window is None)
        out.append(MaskPicture(f"{which}{what}", visible, padding, changed))
    return tuple(out)
