"""examples/translate_numbers.py."""

import doctest
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import minigpt
from minigpt import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "translate_numbers.py"
spec = importlib.util.spec_from_file_location("translate_numbers", EXAMPLE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

# written out by hand, 0 to 100
IN_DUTCH = """
nul een twee drie vier vijf zes zeven acht negen
tien elf twaalf dertien veertien vijftien zestien zeventien achttien negentien
twintig eenentwintig tweeëntwintig drieëntwintig vierentwintig vijfentwintig zesentwintig zevenentwintig achtentwintig
negenentwintig
dertig eenendertig tweeëndertig drieëndertig vierendertig vijfendertig zesendertig zevenendertig achtendertig
negenendertig
veertig eenenveertig tweeënveertig drieënveertig vierenveertig vijfenveertig zesenveertig zevenenveertig achtenveertig
negenenveertig
vijftig eenenvijftig tweeënvijftig drieënvijftig vierenvijftig vijfenvijftig zesenvijftig zevenenvijftig achtenvijftig
negenenvijftig
zestig eenenzestig tweeënzestig drieënzestig vierenzestig vijfenzestig zesenzestig zevenenzestig achtenzestig
negenenzestig
zeventig eenenzeventig tweeënzeventig drieënzeventig vierenzeventig vijfenzeventig zesenzeventig zevenenzeventig
achtenzeventig negenenzeventig
tachtig eenentachtig tweeëntachtig drieëntachtig vierentachtig vijfentachtig zesentachtig zevenentachtig achtentachtig
negenentachtig
negentig eenennegentig tweeënnegentig drieënnegentig vierennegentig vijfennegentig zesennegentig zevenennegentig
achtennegentig negenennegentig
honderd
"""
IN_ENGLISH = """
zero one two three four five six seven eight nine
ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
twenty twenty-one twenty-two twenty-three twenty-four twenty-five twenty-six twenty-seven twenty-eight twenty-nine
thirty thirty-one thirty-two thirty-three thirty-four thirty-five thirty-six thirty-seven thirty-eight thirty-nine
forty forty-one forty-two forty-three forty-four forty-five forty-six forty-seven forty-eight forty-nine
fifty fifty-one fifty-two fifty-three fifty-four fifty-five fifty-six fifty-seven fifty-eight fifty-nine
sixty sixty-one sixty-two sixty-three sixty-four sixty-five sixty-six sixty-seven sixty-eight sixty-nine
seventy seventy-one seventy-two seventy-three seventy-four seventy-five seventy-six seventy-seven seventy-eight
seventy-nine
eighty eighty-one eighty-two eighty-three eighty-four eighty-five eighty-six eighty-seven eighty-eight eighty-nine
ninety ninety-one ninety-two ninety-three ninety-four ninety-five ninety-six ninety-seven ninety-eight ninety-nine
one-hundred
"""
DUTCH, ENGLISH = IN_DUTCH.split(), [words.replace("one-hundred", "one hundred") for words in IN_ENGLISH.split()]
LARGER = {
    101: ("honderd een", "one hundred one"),
    117: ("honderd zeventien", "one hundred seventeen"),
    200: ("tweehonderd", "two hundred"),
    327: ("driehonderd zevenentwintig", "three hundred twenty-seven"),
    1000: ("duizend", "one thousand"),
    1001: ("duizend een", "one thousand one"),
    1100: ("duizend honderd", "one thousand one hundred"),
    2023: ("tweeduizend drieëntwintig", "two thousand twenty-three"),
    8088: ("achtduizend achtentachtig", "eight thousand eighty-eight"),
    9999: ("negenduizend negenhonderd negenennegentig", "nine thousand nine hundred ninety-nine"),
}


def test_numbers_are_the_words_of_the_tables():
    assert len(DUTCH) == len(ENGLISH) == 101
    assert [example.dutch(n) for n in range(101)] == DUTCH
    assert [example.english(n) for n in range(101)] == ENGLISH
    for n, words in LARGER.items():
        assert (example.dutch(n), example.english(n)) == words
    assert not doctest.testmod(example).failed


def test_each_number_has_words_of_its_own_in_both_languages():
    words = [word(n) for n in range(10_000) for word in (example.dutch, example.english)]
    assert len(set(words)) == 20_000  # so that a text says by itself which language it is


def test_a_tenth_is_held_out_in_both_directions():
    held_outs = []
    for seed in range(3):
        train, held_out = example.split_numbers(seed)
        assert sorted(train + held_out) == list(range(10_000)) and len(held_out) == 1000 and 0 in train
        assert example.split_numbers(seed) == (train, held_out)
        shown = {text for pair in example.pairs_of(train) for text in pair}
        asked = {text for pair in example.pairs_of(held_out) for text in pair}
        assert len(asked) > 2700 and not shown & asked
        held_outs.append(held_out)
    assert held_outs[0] != held_outs[1] != held_outs[2]


def test_pairs_go_both_ways_each_once():
    assert example.pairs_of([22, 1307]) == [
        ("tweeëntwintig", "twenty-two"),
        ("twenty-two", "tweeëntwintig"),
        ("duizend driehonderd zeven", "one thousand three hundred seven"),
        ("duizend driehonderdzeven", "one thousand three hundred seven"),
        ("one thousand three hundred seven", "duizend driehonderd zeven"),
    ]


def test_numbers_of_few_words_are_drawn_more_often():
    counts = np.bincount(example.often(range(10_000)), minlength=10_000)
    assert counts[[0, 7, 30, 27, 900, 8000, 1307, 9999]].tolist() == [81, 27, 27, 9, 27, 27, 3, 1]


def test_words_are_pieces_and_the_fewest_of_them():
    tokenizer = example.make_tokenizer([])
    for text, pieces in {
        "driehonderd zevenentwintig": "▁drie honderd ▁zeven en twintig",
        "driehonderdzevenentwintig": "▁drie honderd zeven en twintig",
        "Negentienhonderd": "▁negentien honderd",
        "three hundred twenty-seven": "▁three ▁hundred ▁twenty - seven",
    }.items():
        assert tokenizer.tokens(text) == pieces.split()
    texts = [text for pair in example.pairs_of(range(0, 10_000, 7)) for text in pair]
    rows = [tokenizer.encode(text) for text in texts]
    assert [tokenizer.decode(row) for row in rows] == texts
    assert min(row.min() for row in rows) > tokenizer.unk_id and max(map(len, rows)) == 7


TINY = ["--steps", 4, "--eval-interval", 2, "--save-interval", 2, "--batch-size", 4, "--d-model", 8, "--d-kv", 4]
TINY += ["--d-ff", 9, "--num-layers", 1, "--threads", 1, "--shards", 2]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The example on the numbers below 300, of which 30 are held out, in four steps of a tiny model
    -> what was printed.
    """
    monkeypatch.setattr(example, "NUMBERS", 300)
    monkeypatch.setattr(example, "HELD_OUT", 30)
    monkeypatch.setattr(example, "LONGEST", 8)

    def main(*options, name="run", code=0):
        argv = [*TINY, "--out", tmp_path / name, *options]
        assert example.main([str(word) for word in argv]) == code
        return capsys.readouterr()

    return main


def test_a_run_says_how_many_it_has_right_and_draws_and_goes_on_bit_for_bit(run, tmp_path, monkeypatch):
    lines = run("--schedule", "constant").out.splitlines()
    assert re.fullmatch(r"validation loss \d\.\d{4}", lines[-1])
    assert sum(re.fullmatch(r"  \S.* to (English|Dutch) +\d+  \d+\.\d%", line) is not None for line in lines) == 3
    for name in ("dutch_english.png", "english_dutch.png", "loss.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    model = minigpt.load(tmp_path / "run" / "last")
    tokenizer = minigpt.load_tokenizer(tmp_path / "run" / "best")
    assert tokenizer.vocab_size == model.config.vocab_size == 126 and model.config.num_heads == 2
    monkeypatch.setattr(example, "draw", lambda *args: None)
    run("--schedule", "constant", "--steps", 2, name="half")
    assert "after step 2 of 4" in run("--schedule", "constant", "--resume", name="half").out
    np.testing.assert_array_equal(minigpt.load(tmp_path / "half" / "last").store.vector, model.store.vector)
    assert "seed is 1, the run in" in run("--resume", "--seed", 1, name="half", code=2).err


def test_options_reach_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(example, "LONGEST", 40)
    monkeypatch.setattr(example, "draw", lambda *args: None)
    run("--vocab-size", 60, "--seed", 3, "--feed-forward-proj", "gated-gelu", "--no-tie-embeddings", "--steps", 1)
    model = minigpt.load(tmp_path / "run" / "best")
    assert model.config.vocab_size == 60 and model.config.feed_forward_proj == "gated-gelu"
    assert not model.config.tie_embeddings


@pytest.mark.slow
def test_a_short_run_translates_most_numbers_that_it_has_not_seen(tmp_path, capsys):
    out = tmp_path / "run"
    assert example.main(["--preset", "quick", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    right = [int(count.replace(",", "")) for count in re.findall(r" ([\d,]+)  \d+\.\d%", printed)]
    assert len(right) == 3 and min(right) > 800
    n = next(n for n in example.split_numbers(0)[1] if n > 1000)
    assert cli.main(["translate", "--model", str(out), example.dutch(n)]) == 0
    assert capsys.readouterr().out == example.english(n) + "\n"
