"""minigpt translate."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest

import minigpt
from minigpt import cli
from minigpt.cli.terminal import visible
from minigpt.models.translating import translate
from minigpt.tokenizers import AddedToken, UnigramTokenizer
from minigpt.tokenizers.unigram_files import T5_PRE_TOKENIZER, T5_SPECIAL

LINES = ["een twee", "drie", "twee twee een"]


@pytest.fixture(scope="module")
def tokenizer():
    pieces = [*T5_SPECIAL, "▁een", "▁twee", "▁drie", "▁one", "▁two", "\x1b", "▁nl:"]
    added = [AddedToken(token, i) for i, token in enumerate(T5_SPECIAL)]
    options = {"unk_id": 2, "pre_tokenizer": T5_PRE_TOKENIZER, "added": added}
    return UnigramTokenizer([(piece, -1.0) for piece in pieces], **options)


@pytest.fixture(scope="module")
def model(tokenizer):
    model = minigpt.T5(minigpt.T5Config(tokenizer.vocab_size, 6, 3, 8, 1, 2, 4), seed=3)
    model.store.vector[:] = np.random.default_rng(2).standard_normal(model.num_parameters)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model, tokenizer):
    path = tmp_path_factory.mktemp("t5") / "best"
    model.save(path, tokenizer)
    return str(path)


@pytest.fixture
def say(capsys, monkeypatch):
    """Run the command; stdin: bytes that are piped in -> lines that it printed."""

    def command(*argv, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        short = [] if "--max-new-tokens" in argv else ["--max-new-tokens", "20"]
        assert cli.main(["translate", *map(str, argv), *short]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out.removesuffix("\n").split("\n")

    return command


def test_a_text_gives_what_the_model_writes_for_it(say, folder, model, tokenizer):
    def expected(text, **options):
        return [visible(translate(model, tokenizer, [text], **{"max_new_tokens": 20} | options)[0])]

    assert say("--model", folder, "een twee") == expected("een twee")
    assert say("--model", os.path.dirname(folder), "drie", "--max-new-tokens", 2) == expected("drie", max_new_tokens=2)
    assert say("--model", folder, "drie", "--prefix", "nl: ") == expected("nl: drie") != expected("drie")
    beams = {"num_beams": 3, "length_penalty": 0.5, "max_new_tokens": 6}
    given = ["--num-beams", 3, "--length-penalty", 0.5, "--max-new-tokens", 6]
    assert say("--model", folder, "een twee", *given) == expected("een twee", **beams)
    assert "\x1b" not in say("--model", folder, "een\x1b")[0]


def test_each_line_of_a_pipe_gives_a_line(say, folder, model, tokenizer):
    expected = [visible(text) for text in translate(model, tokenizer, LINES, max_new_tokens=20)]
    assert say("--model", folder, stdin="\n".join(LINES).encode()) == expected
    padded = b"\xef\xbb\xbf" + "\r\n".join([LINES[0], "", *LINES[1:], ""]).encode()
    assert say("--model", folder, stdin=padded) == [expected[0], "", *expected[1:]]
    assert say("--model", folder, stdin=b"") == [""]


def test_a_folder_of_hugging_face_translates_as_well(say, folder, model, tokenizer, tmp_path):
    minigpt.to_huggingface(model, tmp_path / "theirs", tokenizer)
    assert say("--model", tmp_path / "theirs", "een twee") == say("--model", folder, "een twee")


def test_the_attention_is_drawn_where_it_is_asked_for(say, folder, tmp_path):
    say("--model", folder, "een twee", "--max-new-tokens", 3, "--plot", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_lines_come_as_soon_as_they_are_there(folder):
    argv = [sys.executable, "-m", "minigpt", "translate", "--model", folder]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        process.stdin.write("een\n")
        assert process.stdout.readline()  # before the pipe is closed
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([""], "the text is empty, there is nothing to translate"),
        (["vier"], "the tokenizer has no token for 'vier', at position 0 of the text"),
        (["een", "--num-beams", 0], "num_beams is 0"),
        (["een", "--max-new-tokens", 0], "max_new_tokens is 0"),
        (["een", "--length-penalty", "nan"], "length_penalty is nan"),
        (["een", "--length-penalty", 2], "--length-penalty is of beam search, which --num-beams 1 is not"),
        (["een", "--plot", "a.jpg"], "picture a.jpg: its name must end with .png"),
        (["een", "--plot", "missing/a.png"], "picture missing/a.png can't be written: there is no folder"),
        (["--plot", "a.png"], "--plot draws one TEXT, there is none among the arguments"),
    ],
)
def test_mistakes_are_told_in_a_line(fail, folder, argv, message):
    assert f"minigpt: {message}" in fail("translate", "--model", folder, *argv)


def test_a_line_that_can_not_be_read_is_named(fail, folder, monkeypatch):
    unknown, broken = "the tokenizer has no token for 'vier'", "the text piped in isn't UTF-8: byte 0xff at offset 2"
    for text, message in ((b"een\nvier\n", f"line 2: {unknown}"), (b"een\ntw\xff\n", f"line 2: {broken}")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert message in fail("translate", "--model", folder)


def test_other_models_and_folders_are_refused(fail, tmp_path, tokenizer, model):
    minigpt.GPT(minigpt.GPTConfig(tokenizer.vocab_size, 8, 1, 1, 4)).save(tmp_path / "gpt", tokenizer)
    error = fail("translate", "--model", tmp_path / "gpt", "een")
    assert "gpt: the model is a gpt, translating needs one of two stacks, such as t5" in error
    model.save(tmp_path / "bare")
    assert "there is no tokenizer.json" in fail("translate", "--model", tmp_path / "bare", "een")
    assert "there is no such checkpoint folder" in fail("translate", "--model", tmp_path / "none", "een")
