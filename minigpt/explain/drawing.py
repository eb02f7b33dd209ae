"""What a drawing of a family is made of, read off the layers that its config wires and the lines of
its table: boxes from ids to loss, who sees whom, and how many numbers each part learns.
"""

from typing import NamedTuple

import numpy as np

from minigpt import models
from minigpt.explain.counts import PARTS
from minigpt.explain.family import Family
from minigpt.explain.sizes import blocks_of, counts_of, with_blocks, with_head
from minigpt.layers import (
    MLP,
    DecoderBlock,
    Embedding,
    LayerNorm,
    LearnedPositions,
    PostNormBlock,
    PreNormBlock,
    RMSNorm,
)
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
        stacks=two_stacks(look) if "encoder" in look.layers else (only_stack(look),),
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
        branches=branches(look, look.layers["blocks"][0]),
        pre_norm=isinstance(look.layers["blocks"][0], PreNormBlock),
        after=tuple(norm(look, look.layers[name], "final norm") for name in names[at:] if name == "ln_f"),
    )


def two_stacks(look):
    """An encoder and a decoder that reads what it gives."""
    numbers, layers, C = blocks_of(look.family, look.config), look.layers, look.config.d_model
    users = "both inputs and the head" if look.config.tie_embeddings else "both inputs"
    rows = " × ".join(f"{n:,}" for n in layers["wte"].weight.shape)
    table = look.box("wte", f"{rows}: one table for {users}", "tokens")
    sources = {
        "encoder": look.box("ids", "(B, S): what is read"),
        "decoder": look.box("decoder_input_ids", "(B, T): the targets, moved to the right", "decoder's input"),
    }
    memory = look.box("memory", f"(B, S, {C:,})", "memory", "two stacks")
    out = []
    for (name, source), n in zip(sources.items(), numbers):
        rows, heads = layers[f"{name}_bias"].weight.shape
        dropouts = [look.box("dropout", "", part, small=True) for part in ("embedding dropout", "final dropout")]
        out.append(Stack(
            name=name,
            embeddings=((source, table),),
            before=(dropouts[0],),
            n_blocks=n,
            branches=branches(look, layers[name][0]),
            pre_norm=True,
            after=(norm(look, layers[f"{name}_ln_f"], "final norm"), dropouts[1], *[memory] * (name == "encoder")),
            bias=look.box(f"{name}.bias", f"{rows} × {heads}, for all {n} blocks", "positions", "one table a stack"),
            reads=1 if name == "decoder" else None,
        ))  # fmt: skip
    return tuple(out)


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
    """A LayerNorm, or an RMSNorm."""
    kind, more = ("RMSNorm", "; no mean, no bias") if isinstance(layer, RMSNorm) else ("LayerNorm", "")
    parts += ("norms", "epsilon") if more else ()
    return look.box(kind, "ε = " + f"{layer.eps:g}".replace("e-0", "e-") + more, *parts)


def branches(look, block):
    """The branches of a block, in the order of its code."""
    reads = isinstance(block, DecoderBlock)
    layers = [(block.ln_1, attention(look, block.attn))]
    layers += [(block.ln_cross, cross_attention(look, block.cross))] if reads else []
    layers += [(block.ln_2, feed_forward(look, block.mlp))]
    dropout = look.box("dropout", "", "dropout", small=True)
    out = []
    for layer, middle in layers:
        beside = norm(look, layer, "norms", "epsilon")
        out.append((middle, dropout, beside) if isinstance(block, PostNormBlock) else (beside, middle, dropout))
    return tuple(out)


def attention(look, attn):
    """A block's attention to its own text."""
    scale = f" / √{attn.head_channels}" if attn.scale is None else "" if attn.scale == 1 else f" · {attn.scale:g}"
    added = " + bias" if "encoder_bias" in look.layers else ""
    biases = "" if attn.c_attn.bias or added else "; q, k, v without biases"
    return look.box(
        f"attention, {attn.n_head} heads of {attn.head_channels}",
        f"softmax(q kᵀ{scale}{added}) v{biases}",
        "attention", "scores", "q, k, v", "blocks", "padding",
    )  # fmt: skip


def cross_attention(look, cross):
    """... and to the memory."""
    heads = f"{cross.n_head} heads of {cross.head_channels}"
    return look.box(f"cross-attention, {heads}", "softmax(q kᵀ) v, k and v of the memory", "cross-attention")


def feed_forward(look, mlp):
    """A block's MLP."""
    C, F = mlp.c_fc.weight.shape
    parts = ("MLP", "GELU", "MLP width") if F != 4 * C else ("MLP", "GELU")
    name = ACTIVATIONS[mlp.activation]
    inside = name if isinstance(mlp, MLP) else f"{name.partition(' ')[0]}(x @ Wg) * (x @ Wf)"
    more = " and dropout" if "MLP's dropout" in look.changed else ""
    return look.box(f"MLP, {C:,} → {F:,} → {C:,}", f"with {inside}{more} inside", *parts)


def heads(look):
    """The heads side by side, each down to its loss."""
    layers = look.layers
    if "head" in layers:  # of a decoder
        C, scale = layers["head"].weight.shape[-1], getattr(look.config, "output_scale", 1)
        x = "x" if scale == 1 else f"(x / √{C})"
        note = f"logits = {x} @ wteᵀ, tied" if look.config.tie_embeddings else f"logits = {x} @ W"
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
    if "encoder" in look.layers:
        return masks_of_two_stacks(look)
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


def masks_of_two_stacks(look):
    """Who sees whom: in the encoder, in the decoder, and from the one to the other."""
    keys, T = np.arange(SHOWN)[None] < SHOWN - 2, 6
    encoder, decoder, memory = (
        Mask(causal, None, visible).visible(*sizes)[0, 0]
        for causal, visible, sizes in ((False, keys, (SHOWN, SHOWN)), (True, None, (T, T)), (False, keys, (T, SHOWN)))
    )
    return (
        MaskPicture("encoder: all of the text", encoder, 2, "attention" in look.changed),
        MaskPicture("decoder: all before it", decoder),
        MaskPicture("decoder, of the memory: all", memory, 2, "cross mask" in look.changed),
    )
