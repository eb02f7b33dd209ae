"""minigpt explain: its tables are true to the code, and its page to them."""

import importlib
import inspect
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import minigpt
from minigpt import MinigptError, cli, explain, museum, plots
from minigpt.models import family as model_family

DOCS = Path(__file__).parents[1] / "docs"
FAMILIES = list(explain.FAMILIES.values())
LINES = [(family, line) for family in FAMILIES for line in family.lines]
EXHIBITS = {exhibit.name: exhibit for exhibit in museum.EXHIBITS}
NUMBERS = {  # as transformers counts them, see the parity test
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
    "gpt-neo-125m": 125_198_592, "gpt-neo-1.3B": 1_315_575_808, "gpt-neo-2.7B": 2_651_307_520,
    "bert-base": 109_482_240, "bert-large": 335_141_888, "roberta-base": 124_645_632, "roberta-large": 355_359_744,
    "t5-small": 60_506_624, "t5-base": 222_903_552, "t5-large": 737_668_096, "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344, "t5-v1_1-small": 76_961_152, "t5-v1_1-base": 247_577_856,
    "t5-v1_1-large": 783_150_080, "t5-v1_1-xl": 2_849_757_184, "t5-v1_1-xxl": 11_135_332_352,
}  # fmt: skip
SMALL = {  # sizes that differ, and what a config may switch
    "gpt2": [
        {"vocab_size": 11, "block_size": 7, "n_layer": 3, "n_head": 2, "n_embd": 6},
        {"vocab_size": 11, "block_size": 7, "n_layer": 1, "n_head": 2, "n_embd": 6, "bias": False,
         "tie_embeddings": False},
    ],
    "gpt_neo": [
        {"vocab_size": 11, "max_position_embeddings": 7, "hidden_size": 6, "num_layers": 3, "num_heads": 2,
         "attention_layers": ("local", "local", "global"), "intermediate_size": 10, "tie_embeddings": False},
    ],
}  # fmt: skip
T5 = {"vocab_size": 11, "d_model": 6, "d_kv": 5, "d_ff": 10, "num_layers": 3, "num_heads": 2}
SMALL["t5"] = [T5, T5 | {"num_decoder_layers": 4, "feed_forward_proj": "gated-gelu", "tie_embeddings": False}]
ENCODER = {"vocab_size": 11, "max_position_embeddings": 9, "hidden_size": 6, "num_hidden_layers": 3}
ENCODER |= {"num_attention_heads": 2, "intermediate_size": 10, "num_labels": 4}
for name in ("bert", "roberta"):
    SMALL[name] = [ENCODER | {"head": head} for head in explain.FAMILIES[name].heads]
    SMALL[name].append(ENCODER | {"head": "masked_lm", "tie_embeddings": False})


def each_family():
    return pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def small_configs():
    cases = [(explain.FAMILIES[name], fields) for name, several in SMALL.items() for fields in several]
    return pytest.mark.parametrize(("family", "fields"), cases, ids=lambda case: getattr(case, "name", ""))


def config_of(family, fields):
    return model_family(family.model_type).config_class(**fields)


# The tables


@pytest.mark.parametrize(("family", "line"), LINES, ids=lambda case: getattr(case, "part", ""))
def test_line_names_code_and_an_exhibit_that_exist(family, line):
    assert all(isinstance(text, str) and text for text in line)
    planted = [f"{edit.module}.{edit.function}" for edit in EXHIBITS[line.exhibit].edits]
    assert line.code in planted  # the code is where the mistake is planted
    parts = line.code.split(".")
    (length,) = (i for i in range(1, len(parts)) if is_module(parts[:i]) and not is_module(parts[: i + 1]))
    thing = importlib.import_module(".".join(["minigpt", *parts[:length]]))
    for name in parts[length:]:
        thing = inspect.getattr_static(thing, name)
    thing = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    assert inspect.isfunction(inspect.unwrap(thing))


def is_module(parts):
    path = Path(minigpt.__file__).parent.joinpath(*parts)
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_families_have_at_least_twenty_lines():
    lines = {name: len(family.lines) for name, family in explain.FAMILIES.items()}
    assert lines["bert"] + lines["roberta"] >= 20 and lines["t5"] >= 20


def test_no_exhibit_is_named_twice_nor_a_part_of_a_family():
    names = [line.exhibit for _, line in LINES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        parts = [line.part for line in sum(explain.lines_of(family), ())]
        assert len(parts) == len(set(parts)) and family.changed == set(parts)


# Numbers


@pytest.mark.parametrize("size", NUMBERS)
def test_sizes_have_the_papers_numbers(size):
    (family,) = (family for family in FAMILIES if size in family.sizes)
    config = explain.sized(family, size)
    counts = explain.counts_of(family, config)
    assert sum(counts.values()) == config.num_parameters == NUMBERS[size]
    assert tuple(counts) == explain.PARTS


def test_every_size_is_counted():
    assert {size for family in FAMILIES for size in family.sizes} == NUMBERS.keys()


@small_configs()
def test_counts_by_part_are_those_of_the_parameters(family, fields):
    config = config_of(family, fields)
    model = model_family(family.model_type)(config)
    assert explain.counts_of(family, config) == explain.count_by_part({n: x.shape for n, x in model.parameters.items()})
    assert sum(explain.counts_of(family, config).values()) == model.num_parameters


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("wte.weight", "embeddings"), ("token_types.weight", "embeddings"), ("ln_0.bias", "norms"),
        ("h.3.attn.c_attn.bias", "attention"), ("h.12.mlp.c_fc.weight", "MLP"), ("h.0.ln_2.weight", "norms"),
        ("ln_f.bias", "norms"), ("lm_head.weight", "head"), ("pooler.weight", "head"), ("ln_t.weight", "head"),
        ("encoder.bias.weight", "attention"), ("decoder.h.2.attn.c_proj.weight", "attention"),
        ("decoder.h.1.cross.q_attn.weight", "cross-attention"), ("decoder.h.1.ln_cross.weight", "norms"),
        ("encoder.h.11.mlp.c_gate.weight", "MLP"), ("encoder.ln_f.weight", "norms"), ("head.bias", "head"),
    ],
)  # fmt: skip
def test_parameter_belongs_to_a_part(name, part):
    counts = explain.count_by_part({name: (3, 5)})
    assert counts[part] == 15 == sum(counts.values())


# Text


@each_family()
@pytest.mark.parametrize("width", [20, 40, 80, 109, 110, 133, 500])
def test_table_is_as_wide_as_the_terminal(family, width):
    text = explain.table_text(family, width)
    assert max(map(len, text.splitlines())) <= max(40, min(width, 160))
    assert all(line == line.rstrip() for line in text.splitlines())
    wide = "".join(explain.table_text(family, 160).split())
    for line in sum(explain.lines_of(family), ()):
        assert line.exhibit.replace(" ", "") in wide and line.code in wide


@each_family()
def test_no_word_of_a_line_is_lost(family):
    letters = sorted("".join(explain.table_text(family, 70).split()))
    for line in sum(explain.lines_of(family), ()):
        for letter in "".join(line).replace(" ", ""):
            letters.remove(letter)


def test_page_is_what_the_code_says():
    page = (DOCS / "FAMILIES.md").read_text(encoding="utf-8")
    assert page == explain.page() + "\n"
    for family in FAMILIES:
        assert f"](family-{family.name}.png)" in page
    tests = re.findall(r"`tests/(\S+)::(\w+)`", page)
    assert len(tests) > 10
    for path, name in tests:
        assert f"def {name}(" in (DOCS.parent / "tests" / path).read_text(encoding="utf-8")


# Drawings


@each_family()
def test_drawing_of_the_page_is_small(family):
    assert 10_000 < (DOCS / f"family-{family.name}.png").stat().st_size < 100_000


@pytest.mark.slow
@each_family()
def test_drawing_of_the_page_is_what_the_code_draws(family):
    """Seen from afar, so that another version's edges of letters do not count; a renamed box
    does.
    """
    from PIL import Image

    drawn = plots.png(plots.draw_family(explain.drawing(family, explain.sized(family))))
    pictures = [Image.open(source) for source in (io.BytesIO(drawn), DOCS / f"family-{family.name}.png")]
    assert pictures[0].size == pictures[1].size
    small = [np.asarray(picture.convert("L").reduce(8), float) for picture in pictures]
    assert np.abs(small[0] - small[1]).max() < 25


@each_family()
def test_nothing_in_a_drawing_overlaps_or_leaves_the_page(family):
    figure = plots.draw_family(explain.drawing(family, explain.sized(family)))
    figure.draw_without_rendering()
    page = figure.bbox
    extents = [text.get_window_extent() for text in figure.axes[0].texts]
    for i, a in enumerate(extents):
        assert page.x0 <= a.x0 and a.x1 <= page.x1 and page.y0 <= a.y0 and a.y1 <= page.y1, figure.axes[0].texts[i]
        for j, b in enumerate(extents[:i]):
            assert not a.overlaps(b), (figure.axes[0].texts[i], figure.axes[0].texts[j])
    boxes = [patch.get_window_extent() for patch in figure.axes[0].patches if patch.get_gid() == "box"]
    assert len(boxes) > 10
    for i, a in enumerate(boxes):
        assert page.x0 < a.x0 and a.x1 < page.x1 and page.y0 < a.y0 and a.y1 < page.y1
        assert not any(a.overlaps(b) for b in boxes[:i])
        inside = [e for e in extents if a.overlaps(e)]
        assert inside and all(a.x0 < e.x0 and e.x1 < a.x1 for e in inside)


def test_drawing_colours_what_the_table_changes():
    gpt2, neo = (explain.drawing(f, explain.sized(f)) for f in map(explain.FAMILIES.get, ("gpt2", "gpt_neo")))
    assert not any(box.changed for box in all_boxes(gpt2)) and gpt2.against is None
    assert [box.title for box in all_boxes(neo) if box.changed] == ["attention, 12 heads of 64"]
    assert [mask.changed for mask in neo.masks] == [False, True]


def all_boxes(drawing):
    groups = [*map(boxes_of, drawing.stacks), *drawing.heads]
    return [box for group in groups for box in group]


def boxes_of(stack):
    groups = [*stack.embeddings, stack.before, *stack.branches, stack.after]
    return [box for group in groups for box in group] + [stack.bias] * (stack.bias is not None)


def test_drawing_of_an_encoder_has_a_chain_of_boxes_for_each_loss():
    bert, roberta = (explain.drawing(f, explain.sized(f)) for f in map(explain.FAMILIES.get, ("bert", "roberta")))
    assert [[box.title for box in chain] for chain in bert.heads] == [
        ["transform", "masked-LM head", "loss"], ["pooler", "next-sentence head", "loss"],
    ]  # fmt: skip
    assert [[box.title for box in chain] for chain in roberta.heads] == [["transform", "masked-LM head", "loss"]]
    assert not (bert.stacks[0].pre_norm or roberta.stacks[0].pre_norm) and sum(bert.counts.values()) == 110_106_428
    plain = [box.title for box in all_boxes(bert) if not box.changed]
    assert plain == ["ids", "wte", "positions", "wpe", "dropout", "dropout"]
    assert [box.title for box in all_boxes(roberta) if not box.changed] == ["ids", "wte", "dropout", "dropout"]
    assert bert.masks[0].padding == 2 and bert.masks[0].visible.sum() == 8 * 6


def test_drawing_of_two_stacks_has_one_table_and_a_memory():
    drawing = explain.drawing(explain.FAMILIES["t5"], explain.sized(explain.FAMILIES["t5"], "t5-v1_1-small"))
    encoder, decoder = drawing.stacks
    assert (encoder.name, encoder.n_blocks, decoder.name, decoder.n_blocks) == ("encoder", 8, "decoder", 8)
    assert encoder.embeddings[0][1] == decoder.embeddings[0][1]
    assert encoder.after[-1].title == "memory" and decoder.after[-1].title == "dropout"
    titles = [branch[1].title for branch in decoder.branches]
    assert titles == ["attention, 6 heads of 64", "cross-attention, 6 heads of 64", "MLP, 512 → 1,024 → 512"]
    assert len(encoder.branches) == 2 and (encoder.reads, decoder.reads) == (None, 1)
    assert [stack.bias.title for stack in drawing.stacks] == ["encoder.bias", "decoder.bias"]
    assert [mask.visible.shape for mask in drawing.masks] == [(8, 8), (6, 6), (6, 8)]
    assert [mask.visible.sum() for mask in drawing.masks] == [8 * 6, 21, 6 * 6]
    plain = {box.title for box in all_boxes(drawing) if not box.changed}
    assert plain == {"ids", "dropout", "loss"}


def test_masks_are_the_models_own():
    """Of the drawing against the weights of a model: who has any."""
    family = explain.FAMILIES["gpt_neo"]
    fields = SMALL["gpt_neo"][0] | {"attention_layers": None, "window_size": 3, "max_position_embeddings": 8}
    config = config_of(family, fields)
    _, cache = model_family("gpt_neo")(config).forward(np.arange(8)[None])
    for picture, block in zip(explain.drawing(family, config).masks, cache.blocks):
        np.testing.assert_array_equal(picture.visible, block.attn.weights[0, 0] > 0)


@small_configs()
def test_any_config_can_be_drawn(family, fields):
    drawing = explain.drawing(family, config_of(family, fields))
    assert len(all_boxes(drawing)) > 10 and sum(drawing.counts.values())
    if family.name in ("bert", "t5"):
        assert plots.draw_family(drawing).axes


# The command


def test_command_prints_a_table_and_numbers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    assert shutil.get_terminal_size().columns == 90
    assert cli.main(["explain", "gpt_neo"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("GPT-Neo against GPT-2\n") and "125,198,592" in out
    assert max(map(len, out.splitlines())) <= 90
    assert cli.main(["explain", "gpt2", "--size", "gpt2-xl"]) == 0
    assert "1,557,611,200" in capsys.readouterr().out
    assert cli.main(["explain"]) == 0
    assert all(name in capsys.readouterr().out for name in ["gpt2"])
    assert cli.main(["explain", "--markdown"]) == 0
    assert capsys.readouterr().out == (DOCS / "FAMILIES.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("hugging_face", [False, True])
def test_command_counts_a_model_of_ones_own(tmp_path, capsys, hugging_face):
    family = explain.FAMILIES["gpt_neo"]
    model = model_family("gpt_neo")(config_of(family, SMALL["gpt_neo"][0]))
    minigpt.to_huggingface(model, tmp_path) if hugging_face else model.save(tmp_path)
    for argv in (["--model", str(tmp_path)], ["gpt_neo", "--model", str(tmp_path)]):
        assert cli.main(["explain", *argv, "--plot", str(tmp_path / "p.svg")]) == 0
        out = capsys.readouterr().out
        assert f"Parameters of {tmp_path}" in out and f"{model.num_parameters:,}" in out
        assert (tmp_path / "p.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert cli.main(["explain", "gpt2", "--model", str(tmp_path)]) == 2
    assert "holds a gpt_neo, not a gpt2" in capsys.readouterr().err


def test_command_counts_an_encoder_with_its_head(tmp_path, capsys):
    model = model_family("roberta")(config_of(explain.FAMILIES["roberta"], SMALL["roberta"][1]))
    minigpt.to_huggingface(model, tmp_path)
    assert cli.main(["explain", "--model", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"Parameters of {tmp_path}, head masked_lm" in out and f"{model.num_parameters:,}" in out
    other = model_family("roberta")(config_of(explain.FAMILIES["roberta"], SMALL["roberta"][0]))
    assert re.search(f"without a head +{other.num_parameters:,}\n", out)


def test_command_refuses_what_it_has_no_table_of(tmp_path, capsys):
    from minigpt.models.recipe_gpt import gpt_or_recipe

    kind, config = gpt_or_recipe(SMALL["gpt2"][0] | {"positions": "rotary", "n_head": 1})
    kind(config).save(tmp_path)
    for argv, message in (
        (["bart"], "family is 'bart', it must be one of gpt2, gpt_neo, bert, roberta, t5"),
        (["gpt2", "--size", "gpt-neo-125m"], "size is 'gpt-neo-125m', it must be one of gpt2, gpt2-medium"),
        (["gpt2", "--size", "gpt2", "--model", str(tmp_path)], "--size goes without a model"),
        (["--model", str(tmp_path)], "holds a recipe_gpt, there are tables of gpt2, gpt_neo"),
        (["--model", str(tmp_path / "none")], "none"),
        (["--size", "gpt2"], "name a family: gpt2, gpt_neo"),
        (["gpt2", "--markdown"], "--markdown prints the page of all families"),
        (["gpt2", "--plot", "x.bmp"], "its name must end with"),
        (["gpt2", "--plot", str(tmp_path / "no" / "x.png")], "there is no folder"),
    ):
        assert cli.main(["explain", *argv]) == 2
        captured = capsys.readouterr()
        assert message in captured.err and not captured.out and captured.err.count("\n") == 1


def test_size_of_no_family_is_refused():
    with pytest.raises(MinigptError, match="size is 'x', it must be one of gpt2, "):
        explain.sized(explain.FAMILIES["gpt2"], "x")


# Numbers by transformers, on the meta device: no weights are made


@pytest.mark.parity
@pytest.mark.parametrize("size", [size for size in NUMBERS if not size.startswith("t5")])
def test_numbers_are_transformers(size):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    (family,) = (family for family in FAMILIES if size in family.sizes)
    fields = {"n_positions" if name == "block_size" else name: value for name, value in family.sizes[size].items()}
    if family.name == "gpt_neo":
        fields["attention_types"] = [[["global", "local"], fields["num_layers"] // 2]]
    if family.name == "roberta":
        fields |= {"max_position_embeddings": 514, "type_vocab_size": 1}
    if "hidden_size" in fields:
        fields["intermediate_size"] = 4 * fields["hidden_size"]
    config = transformers.AutoConfig.for_model(family.name, **{n: x for n, x in fields.items() if n != "head"})
    with torch.device("meta"):
        theirs = transformers.AutoModel.from_config(config)
    assert sum(p.numel() for p in theirs.parameters()) == NUMBERS[size]


@pytest.mark.parity
@pytest.mark.parametrize("size", explain.FAMILIES["t5"].sizes)
def test_numbers_of_each_part_are_transformers(size):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    family = explain.FAMILIES["t5"]
    fields = dict(family.sizes[size])
    tied = fields.pop("tie_embeddings", True)
    with torch.device("meta"):
        theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**fields))
        if not tied:  # as its file has it; without one the oracle of this version ties the head
            theirs.lm_head.weight = torch.nn.Parameter(torch.empty(fields["vocab_size"], fields["d_model"]))
    words = {
        "shared": "embeddings", "SelfAttention": "attention", "EncDecAttention": "cross-attention",
        "DenseReluDense": "MLP", "layer_norm": "norms", "final_layer_norm": "norms", "lm_head": "head",
    }  # fmt: skip
    counts = dict.fromkeys(explain.PARTS, 0)
    for name, parameter in theirs.named_parameters():
        (part,) = (words[word] for word in name.split(".") if word in words)
        counts[part] += parameter.numel()
    assert explain.counts_of(family, explain.sized(family, size)) == counts
