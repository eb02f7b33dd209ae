import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.font_manager import findfont, get_font

from minigpt import plots
from minigpt.errors import MinigptError
from minigpt.training.bands import Band, Interval, interval

ROWS = [
    {"step": 10, "train_loss": 3.5},
    {"step": 20, "train_loss": 3.0, "val_loss": 3.2},
    {"step": 30, "train_loss": 2.5},
    {"step": 40, "train_loss": 2.0, "val_loss": 2.4, "seconds": 1.0, "data_sha256": None},
]


def line(ax, gid):
    """The data of the last line drawn under this name."""
    return next(line for line in reversed(ax.lines) if line.get_gid() == gid).get_xydata()


def attention(rng, *shape):
    """Random causal attention weights."""
    T, S = shape[-2:]
    weights = rng.random(shape) * np.tri(T, S, S - T)
    return weights / weights.sum(axis=-1, keepdims=True)


def pixels(data):
    """The width and height that a PNG's header declares."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_loss_curve_draws_the_rows():
    ax = plots.loss_curve(ROWS)
    np.testing.assert_array_equal(line(ax, "training"), [[10, 3.5], [20, 3.0], [30, 2.5], [40, 2.0]])
    np.testing.assert_array_equal(line(ax, "validation"), [[20, 3.2], [40, 2.4]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss (nats per token)")


def test_loss_curve_title_says_what_is_seen():
    def title(rows, **more):
        return plots.loss_curve(rows, **more).get_title(loc="left")

    assert title(ROWS) == "Validation loss 2.400 after 40 steps"
    worse = [*ROWS, {"step": 1050, "train_loss": 1.0, "val_loss": 2.9}]
    assert title(worse) == "Validation loss 2.900 after 1,050 steps, 2.400 at its best (step 40)"
    assert title(ROWS[:1]) == "Training loss 3.500 after 10 steps"
    assert title([]) == "No losses yet"
    assert title([*ROWS, {"step": 50, "train_loss": float("nan")}]) == "Loss not finite at step 50"
    assert title(ROWS, title="Mine, for $5 or $6") == "Mine, for $5 or $6"


def test_loss_curve_of_two_runs_has_two_colours():
    ax = plots.loss_curve(ROWS, label="first")
    longer = [{"step": 400, "train_loss": 1.0, "val_loss": 1.5}]
    assert plots.loss_curve(longer, ax=ax, label="second") is ax
    first, second = (drawn for drawn in ax.lines if drawn.get_gid() == "validation")
    assert first.get_color() != second.get_color()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["first: training", "first: validation", "second: training", "second: validation"]
    assert ax.get_xlim()[1] > 400


def make_band(rng):
    """A band of five invented runs, evaluated at steps 20 and 40,
    training loss averaged over 20 steps.
    """
    made = [interval(steps, 3 + rng.random((5, len(steps)))) for steps in ([10, 20, 40], [20, 40])]
    train, val = (Interval(**{name: np.array(values) for name, values in columns.items()}) for columns in made)
    return Band("tiny", {}, {}, ["abc"], [{"seed": seed} for seed in range(5)], 20, train, val)


def test_loss_curve_is_drawn_over_its_band(rng):
    band = make_band(rng)
    ax = plots.loss_curve(ROWS, band=band)
    behind = [area for area in ax.collections if area.get_gid() == "band"]
    for area, part in zip(behind, (band.train, band.val), strict=True):
        corners = area.get_paths()[0].vertices
        for edge in (part.low, part.high):
            for point in zip(part.steps, edge):
                assert np.isclose(corners, point).all(axis=1).any()
        assert area.get_zorder() < min(drawn.get_zorder() for drawn in ax.lines)
    np.testing.assert_allclose(line(ax, "training"), [[10, 3.5], [20, 3.25], [30, 2.75], [40, 2.25]])
    np.testing.assert_array_equal(line(ax, "validation"), [[20, 3.2], [40, 2.4]])
    assert "normal (5 seeds)" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert ROWS[1]["train_loss"] == 3.0
    for rows in ([], ROWS[:1], [{"step": 1, "val_loss": 2.0}], [*ROWS, {"step": 50, "train_loss": float("nan")}]):
        assert plots.png(plots.loss_curve(rows, band=band).figure)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        ROWS[:1],
        [{"step": 1, "val_loss": 2.0}],
        [{"step": 0, "train_loss": 2.0}],
        [{"step": 1}],
        [{"step": 1, "train_loss": float("nan")}],
    ],
    ids=["no rows", "one row", "no training loss", "step 0", "no loss at all", "only NaN"],
)
def test_loss_curve_of_little_is_drawn(rows):
    assert plots.png(plots.loss_curve(rows).figure)


def test_loss_curve_leaves_a_gap_where_a_loss_is_not_finite():
    rows = [*ROWS, {"step": 50, "train_loss": float("inf")}, {"step": 60, "train_loss": 9.0, "val_loss": float("nan")}]
    ax = plots.loss_curve(rows)
    assert np.isnan(line(ax, "training")[4, 1])
    assert len(line(ax, "validation")) == 2
    assert 9 <= ax.get_ylim()[1] < 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"train_loss": 1.0}], "row 0 has no step"),
        ([{"step": 1}, 3], "row 1 is 3, it must be a dict"),
        ([{"step": 1, "val_loss": "2.0"}], "row 0: val_loss is '2.0', it must be a number"),
    ],
)
def test_loss_curve_refuses_what_is_no_metrics(rows, message):
    with pytest.raises(MinigptError, match=message):
        plots.loss_curve(rows)


def test_attention_map_draws_the_weights(rng):
    weights = attention(rng, 4, 4)
    ax = plots.attention_map(weights, "a b\n", title="Head 3")
    np.testing.assert_array_equal(ax.images[0].get_array(), weights)
    assert ax.images[0].get_clim() == (0, weights.max())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "␣", "b", "↵"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "␣", "b", "↵"]
    assert ax.get_title(loc="left") == "Head 3"
    assert "key" in ax.get_xlabel()
    assert "query" in ax.get_ylabel()


def test_attention_map_names_the_queries(rng):
    weights = attention(rng, 2, 5)
    ax = plots.attention_map(weights, "abcde")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["d", "e"]
    ax = plots.attention_map(weights, "abcde", query_tokens=["le", "chat"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["le", "chat"]


def test_attention_map_keeps_to_the_axes_it_is_given(rng):
    figure, axes = plots.subplots(1, 2)
    assert plots.attention_map(attention(rng, 3, 3), "abc", ax=axes[1]) is axes[1]
    assert not axes[0].images
    assert plots.png(figure)


def test_attention_map_of_many_tokens_shows_positions(rng):
    ax = plots.attention_map(attention(rng, 300, 300), "x" * 300)
    assert all(label.get_text() != "x" for label in ax.get_xticklabels())


def test_attention_map_where_nothing_is_seen_is_drawn():
    assert plots.png(plots.attention_map(np.zeros((3, 3))).figure)


def test_attention_maps_share_one_scale(rng):
    weights = attention(rng, 5, 3, 4)
    figure = plots.attention_maps(weights, "abcd")
    maps = [ax for ax in figure.axes if ax.images and ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in maps] == [f"head {i}" for i in range(5)]
    for ax, head in zip(maps, weights):
        np.testing.assert_array_equal(ax.images[0].get_array(), head)
        assert ax.images[0].get_clim() == (0, weights.max())
    assert plots.png(figure)


def test_attention_maps_may_have_names(rng):
    figure = plots.attention_maps(attention(rng, 2, 3, 3), names=["early", "late"])
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.images][:2] == ["early", "late"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.attention_maps(np.ones((3, 2, 2)), names=["early"]), "names: 1 of them for 3 heads"),
        (lambda: plots.attention_map(np.ones((2, 3, 4))), r"shape is \(2, 3, 4\), it must be \(queries, keys\)"),
        (lambda: plots.attention_maps(np.ones((1, 2, 3, 4))), r"take one text of the batch: weights\[0\]"),
        (lambda: plots.attention_map(np.ones((0, 3))), r"shape is \(0, 3\)"),
        (lambda: plots.attention_map(np.full((2, 2), np.nan)), "finite"),
        (lambda: plots.attention_map(np.ones((2, 2), complex)), "real"),
        (lambda: plots.attention_map(np.ones((2, 3)), "ab"), "tokens: 2 of them for 3 keys"),
        (lambda: plots.attention_map(np.ones((3, 2)), "ab"), "3 queries can't be the last of 2 tokens"),
        (lambda: plots.attention_map(np.ones((3, 2)), "ab", query_tokens="x"), "query_tokens: 1 of them for 3 queries"),
        (lambda: plots.gradient_norms({}), "grads is empty, it must map at least one name"),
        (lambda: plots.gradient_norms([np.ones(2)]), "grads is a list"),
    ],
)
def test_bad_input_is_named(draw, message):
    with pytest.raises(MinigptError, match=message):
        draw()


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" ", "␣"),
        ("\n", "↵"),
        ("\t", "⇥"),
        ("", "∅"),
        (" the", "␣the"),
        ("\x07", "U+0007"),
        ("猫", "U+732B"),
        ("é", "é"),
        ("$", "$"),
        (7, "7"),
    ],
)
def test_visible_tokens_have_glyphs(token, shown):
    assert plots.visible(token) == shown
    font = get_font(findfont(plots.FONT))
    assert all(font.get_char_index(ord(c)) for c in shown)


def test_tokens_are_never_read_as_mathematics(rng):
    assert plots.png(plots.attention_map(attention(rng, 3, 3), ["$x^$", r"\frac", "_$"], title="a $ b_ $").figure)


def drawn_lines(figure):
    """(source, target, width) of each line between two rows of tokens, by where it begins and
    ends.
    """
    above = figure.axes[0]
    places = {text.get_text(): text.get_position()[0] for text in above.texts}
    names = {round(place, 6): name for name, place in places.items()}
    assert len(names) == len(above.texts)
    lines = [(*(names[round(x, 6)] for x in line.get_xdata()), line.get_linewidth()) for line in above.lines]
    return {(source, target): width for source, target, width in lines}


CROSSED = np.zeros((2, 3, 4, 5))  # layer 1, head 2 takes the tokens of the source in turn, two of them crossed
CROSSED[..., 0] = 1
CROSSED[0, 1] = 0.3
CROSSED[1, 2] = [[1, 0, 0, 0, 0], [0, 0, 0.96, 0.04, 0], [0, 0.75, 0, 0, 0.25], [0, 0, 0, 0, 1]]


def test_cross_attention_draws_lines_between_two_texts_and_a_map():
    source, target = ["drie", "zeven", "twintig", "en", "</s>"], ["three", "twenty", "seven", "end"]
    figure = plots.cross_attention(CROSSED, source, target)
    lines = drawn_lines(figure)
    pairs = [("drie", "three"), ("twintig", "twenty"), ("zeven", "seven"), ("</s>", "seven"), ("</s>", "end")]
    assert set(lines) == set(pairs)  # 0.04 is too little to be seen
    assert [lines[pair] / lines[pairs[0]] for pair in pairs] == pytest.approx([1, 0.96, 0.75, 0.25, 1])
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    assert min(heights[name] for name in source) > max(heights[name] for name in target)
    below = figure.axes[1]
    np.testing.assert_array_equal(below.images[0].get_array(), CROSSED[1, 2])
    assert [label.get_text() for label in below.get_xticklabels()] == source
    assert [label.get_text() for label in below.get_yticklabels()] == target
    assert figure.axes[0].get_title(loc="left") == "Where layer 1, head 2 of the decoder looks"
    assert plots.png(figure)


def test_cross_attention_draws_the_head_that_is_asked_for():
    def title(**which):
        return plots.cross_attention(CROSSED, "abcde", "wxyz", **which).axes[0].get_title(loc="left")

    assert title(layer=0, head=1) == "Where layer 0, head 1 of the decoder looks"
    assert title(head=1).startswith("Where layer 0, head 1 ")  # of two
    assert title(layer=1).startswith("Where layer 1, head 2 ")
    assert title(title="Mine") == "Mine"
    with pytest.raises(MinigptError, match="layer is 2, it must be a whole number from 0 to 1"):
        title(layer=2)
    with pytest.raises(MinigptError, match="head is -1"):
        title(head=-1)


def test_alignment_counts_the_source_tokens_that_are_looked_at(rng):
    np.testing.assert_allclose(plots.alignment(CROSSED), [[1, 1.2, 1], [1, 1, 1 + 0.96 + 0.75 + 0.04]])
    assert plots.alignment(np.eye(6)) == 5
    at_the_end = np.zeros((4, 5))
    at_the_end[:, -1] = 1
    assert plots.alignment(at_the_end) == plots.alignment(np.ones((1, 1))) == 0


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 26, 3), (1, 2, 3, 90)])
def test_cross_attention_of_short_and_long_texts_is_drawn(rng, shape):
    weights = attention(rng, *shape[:2], *shape[2:]) if shape[2] <= shape[3] else rng.random(shape)
    figure = plots.cross_attention(weights, ["a word"] * shape[3], ["▁mot"] * shape[2])
    size = pixels(plots.png(figure))
    assert min(size) > 200 and max(size) < 2700
    assert len(figure.axes) == (1 if shape[3] > 30 else 2)  # too long for a row
    assert figure.axes[0].get_title(loc="left").startswith("Where layer")
    with pytest.raises(MinigptError, match=f"tokens: {shape[3] + 1} of them for {shape[3]} keys"):
        plots.cross_attention(weights, ["a"] * (shape[3] + 1), ["b"] * shape[2])
    with pytest.raises(MinigptError, match=r"\(layers, heads, targets, sources\)"):
        plots.cross_attention(weights[0], ["a"] * shape[3], ["b"] * shape[2])


def test_gradient_norms_draws_the_norms(rng):
    grads = {
        "wte.weight": rng.standard_normal((3, 2)),
        "h.0.ln_1.weight": np.full(4, 1e30, np.float32),
        "h.1.ln_1.weight": np.array([3.0, 4.0]),
    }
    ax = plots.gradient_norms(grads)
    np.testing.assert_allclose(
        line(ax, "norms"), [[np.sqrt((grads["wte.weight"] ** 2).sum()), 0], [2e30, 1], [5, 2]], rtol=1e-6
    )
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_yticklabels()] == list(grads)
    assert ax.get_legend() is None


def test_gradient_norms_marks_zero_and_not_finite():
    ax = plots.gradient_norms({"a": np.ones(2), "b": np.zeros(2), "c": np.array([np.inf, 1])})
    assert line(ax, "exactly zero")[:, 1] == [1]
    assert line(ax, "not finite")[:, 1] == [2]
    assert len(line(ax, "norms")) == 1
    assert plots.png(ax.figure)
    assert plots.png(plots.gradient_norms({"a": np.zeros(2)}).figure)


def test_blocks_group_neighbours():
    names = ["wte.weight", "wpe.weight", "h.0.ln.weight", "h.0.mlp.weight", "h.1.ln.weight", "ln_f.weight"]
    assert list(plots.blocks(names)) == [range(2), range(2, 4), range(4, 5), range(5, 6)]


@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")])
def test_save_writes_the_format_of_the_name_and_the_same_bytes_for_the_same_data(tmp_path, suffix, begin):
    for name in "ab":
        plots.save(plots.loss_curve(ROWS).figure, tmp_path / f"{name}.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    assert data == (tmp_path / f"b.{suffix}").read_bytes()
    assert data.startswith(begin)
    assert suffix != "png" or min(pixels(data)) > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


@pytest.mark.parametrize("name", ["a.jpg", "a", "png", ".png", "a.png.gz"])
def test_save_refuses_other_formats_and_names_those_it_has(tmp_path, name):
    with pytest.raises(MinigptError, match=r"its name must end with \.png or \.svg or \.pdf"):
        plots.save(plots.loss_curve(ROWS).figure, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_save_replaces_what_was_there(tmp_path):
    (tmp_path / "a.png").write_text("old")
    plots.save(plots.loss_curve(ROWS).figure, str(tmp_path / "a.png"))
    assert pixels((tmp_path / "a.png").read_bytes())


def test_save_names_the_path_it_cannot_write(tmp_path):
    (tmp_path / "taken.png").mkdir()
    for path in (tmp_path / "missing" / "a.png", tmp_path / "taken.png"):
        with pytest.raises(MinigptError, match=path.name):
            plots.save(plots.loss_curve(ROWS).figure, path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


def test_figures_show_themselves_in_notebooks():
    data, about = plots.loss_curve(ROWS).figure._repr_png_()
    assert pixels(data)[0] > about["width"]  # sharp on a screen with small pixels
    assert about["alt"] == "Validation loss 2.400 after 40 steps"


def test_figures_need_no_pyplot_and_no_display():
    code = (
        "import sys; from minigpt import plots; plots.png(plots.loss_curve([{'step': 1, 'train_loss': 2.0}]).figure); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    strict = ["-W", "error", "-W", "ignore::DeprecationWarning"]  # matplotlib's own, see setup.cfg
    subprocess.run([sys.executable, *strict, "-c", code], check=True)


def test_threads_may_draw_side_by_side():
    rows = [[{"step": i + 1, "train_loss": 3.0 / (i + j + 1)} for i in range(9)] for j in range(6)]

    def draw(r):
        return plots.png(plots.loss_curve(r).figure)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, rows)) == [draw(r) for r in rows]


def test_step_errors_draw_both_methods_and_leave_gaps():
    steps = np.array([1e-1, 1e-2, 1e-3])
    ax = plots.step_errors(steps, {"central": np.array([1e-3, np.nan, 1e-9]), "complex": np.array([1e-2, 0.0, 1e-15])})
    np.testing.assert_array_equal(line(ax, "central"), np.column_stack([steps, [1e-3, np.nan, 1e-9]]))
    np.testing.assert_array_equal(line(ax, "complex"), np.column_stack([steps, [1e-2, np.nan, 1e-15]]))
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.xaxis_inverted()
