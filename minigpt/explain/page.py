"""docs/FAMILIES.md: the tables of all families, their numbers and drawings."""

from minigpt.explain.counts import PARTS
from minigpt.explain.sizes import counts_of, sized, with_head
from minigpt.explain.text import first_upper, head_name, heading, part_label

TOP = """# The families, line by line

What each family changes against GPT-2, in forward and in backward, where it stands in the code, and
the mistake that the museum plants there (`minigpt gradcheck --museum` plants each and shows what
catches it). GPT-2 itself is compared with the first transformer.

This page is made by `python -m minigpt explain --markdown > docs/FAMILIES.md`, and a test holds it
equal to what the code says: every function named exists, every mistake is an exhibit of the museum,
and none is named twice. A terminal gets one family by `minigpt explain gpt_neo`, and the numbers of
a model of your own with `--model DIR`. The drawings are read off the layers that a config wires:
`minigpt explain gpt2 --plot docs/family-gpt2.png`, and so on.

In formulas, `a @ b` is a matrix product and `a * b` goes number by number; `dx` is the gradient of
the loss by `x`, `dy` the one that arrives; `w` are attention's weights.
"""

TESTED = (  # what, how near, and where: file and function below tests/
    ("GPT-2: logits, loss and every gradient against `transformers`, in float64", "1e-10",
     "models/test_gpt.py::test_gpt_is_transformers_gpt2"),
    ("GPT-Neo: the same, its casts to float32 lifted", "1e-10",
     "models/test_gpt_neo.py::test_gpt_neo_equals_transformers"),
    ("BERT and RoBERTa: every output of every head, loss and every gradient; padded, and with dropout replaced "
     "on both sides by one fixed pattern, so that its places are compared", "1e-10",
     "models/test_encoder_parity.py::test_encoder_equals_transformers"),
    ("T5, v1.0 and v1.1: logits, loss and every gradient; padded at both sides, with dropout by one fixed pattern, "
     "its casts to float32 lifted", "1e-10",
     "models/test_t5_parity.py::test_t5_equals_transformers"),
    ("The same without `transformers`: values that PyTorch made once", "1e-10",
     "ladder/test_golden.py::test_logits_loss_and_every_gradient"),
    ("... of the encoders", "1e-10",
     "ladder/test_golden_encoders.py::test_outputs_loss_and_every_gradient_of_an_encoder"),
    ("... of T5", "1e-10", "ladder/test_golden_t5.py::test_logits_loss_and_every_gradient_of_t5"),
    ("Decoders: every gradient by the complex step, with dropout", "1e-13", "models/test_families.py::test_gradients"),
    ("Encoders: the same, every head, padded", "1e-13", "models/test_encoders.py::test_gradients_of_encoders"),
    ("T5: the same, padded in source and target", "1e-13",
     "models/test_encoder_decoders.py::test_gradients_of_two_stacks"),
    ("Padding changes nothing: decoders", "1e-10", "models/test_families.py::test_padding_changes_nothing"),
    ("... encoders", "1e-10", "models/test_encoders.py::test_padding_changes_nothing_for_an_encoder"),
    ("... either text of T5", "1e-10",
     "models/test_encoder_decoders.py::test_padding_of_either_text_changes_nothing"),
    ("Beam search against `transformers`: texts", "equal",
     "models/test_beam_generation.py::test_beams_equal_transformers"),
    ("Masks: 15%, of which 80, 10 and 10%", "a count", "objectives/test_masking.py::test_rates_are_those_of_the_paper"),
    ("Pairs of sentences: half of them follow", "a count",
     "objectives/test_masked_lm.py::test_half_of_the_second_segments_follow_and_the_others_are_from_elsewhere"),
    ("Spans: a text restored from source and target", "equal",
     "objectives/test_source_target.py::test_text_is_restored_from_source_and_target"),
    ("Each mistake named above, planted: caught by its check, and the code as it is passes", "all",
     "test_museum.py::test_planted_mistake_is_caught_by_its_rung"),
    ("The values that the museum has on record, made again by `transformers`", "1e-12",
     "models/test_museum_golden.py::test_golden_losses_of_encoders_are_transformers"),
    ("... of T5", "1e-12", "models/test_museum_golden.py::test_golden_losses_of_t5_are_transformers"),
    ("Numbers of parameters against `transformers`, on its meta device", "equal",
     "test_explain.py::test_numbers_are_transformers"),
    ("... part by part, of T5", "equal", "test_explain.py::test_numbers_of_each_part_are_transformers"),
    ("This page: code, exhibits, numbers, words", "equal", "test_explain.py::test_page_is_what_the_code_says"),
)  # fmt: skip


def page_of(families, lines_of):
    """The whole page, as Markdown. families: name -> Family; lines_of: a family -> its own lines
    and those that it shares.
    """
    parts = [TOP]
    for family in families.values():
        own, shared = lines_of(family)
        parts.append(f"## {heading(family)}\n\n{family.source}\n")
        parts.append(f"![{family.title}, from ids to loss](family-{family.name}.png)\n")
        parts.append(table(family, own))
        if shared:
            title = families[family.as_in].title
            parts.append(f"{first_upper(family.title)} does these as {title} does, whose table has them in full:\n")
            parts.append("\n".join(f"- {line.part}: {code(line.here)}" for line in shared) + "\n")
        parts.append(numbers(family))
    return "\n".join([*parts, tested()])


def tested():
    """What was tested and how, as a section."""
    rows = ["| | within | test |", "|-|-|-|"]
    rows += [f"| {what} | {limit} | `tests/{where}` |" for what, limit, where in TESTED]
    return "\n".join(["## What was tested, and how", "", *rows])


def table(family, lines):
    """The lines as a table."""
    heads = first_upper(family.against), family.title, "backward", "code; mistake in the museum"
    rows = [f"| | {' | '.join(heads)} |", "|-|-|-|-|-|"]
    for line in lines:
        cells = (line.part, line.before, line.here, line.backward, f"`{line.code}`; {line.exhibit}")
        rows.append("| " + " | ".join(map(escaped, cells)) + " |")
    return "\n".join(rows) + "\n"


def code(text):
    """A line in a list."""
    return escaped(text)


def escaped(text):
    """Text that Markdown shows as it is, but for code between backticks."""
    if text.startswith("`"):
        start, end = text.rsplit("`", 1)
        return f"{start}`{escaped(end)}"
    for sign in ("\\", "*", "_", "|", "<", "["):
        text = text.replace(sign, f"\\{sign}")
    return text


def numbers(family):
    """How many numbers each part learns, for each of the family's sizes; and the whole with each
    head.
    """
    configs = {size: sized(family, size) for size in family.sizes}
    counts = {size: counts_of(family, config) for size, config in configs.items()}
    rows = {part_label(family, part): [each[part] for each in counts.values()] for part in PARTS}
    rows = {part: row for part, row in rows.items() if any(row)}
    rows["all, without a head" if family.heads else "all"] = [sum(each.values()) for each in counts.values()]
    for head in family.heads[1:]:
        totals = [sum(counts_of(family, with_head(config, head)).values()) for config in configs.values()]
        rows[f"all, {escaped(head_name(head))}"] = totals
    lines = [f"| {name} | {' | '.join(f'{n:,}' for n in row)} |" for name, row in rows.items()]
    return "\n".join([f"| parameters | {' | '.join(counts)} |", "|-|" + "-:|" * len(counts), *lines]) + "\n"
