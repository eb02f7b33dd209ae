"""minigpt tokenize train | encode | show."""

import io
import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

import minigpt
from minigpt import CharTokenizer, cli
from minigpt.cli import tokenize

TEXT = "Zoë's snails\n\tare slow 🐌, slower than slow.\n" * 9


@pytest.fixture
def folder(tmp_path, capsys):
    """A folder, with a space in its name, with a BPE of TEXT."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    folder = tmp_path / "a folder"
    argv = ["tokenize", "train", "--data", tmp_path / "text.txt", "--out", folder, "--vocab-size", 280]
    assert cli.main([str(word) for word in argv]) == 0
    return folder


@pytest.fixture
def piped(monkeypatch):
    """Have bytes come by stdin."""

    def pipe(data):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    return pipe


def tokenized(capsys, *argv):
    capsys.readouterr()
    assert cli.main(["tokenize", *map(str, argv)]) == 0
    return capsys.readouterr().out


def test_train_writes_a_folder_and_says_how_well_it_does(folder, capsys, tmp_path):
    out = capsys.readouterr().out
    tokenizer = minigpt.load_tokenizer(folder)
    tokens = len(tokenizer.encode(TEXT))
    assert tokenizer.vocab_size == 280
    assert f"280 tokens; {tmp_path / 'text.txt'} is {tokens} of them" in out
    assert f"{len(TEXT.encode()) / tokens:.2f} bytes a token\nwritten to {folder}" in out
    assert {path.name for path in folder.iterdir()} == {
        *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
    }


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_train_takes_kind_frequency_and_special_tokens(folder, tmp_path, capsys, kind):
    options = ["--kind", kind, "--vocab-size", 300, "--min-frequency", 10, "--special-token", "[UNK]"]
    options += ["--special-token", "<x>"]
    tokenized(capsys, "train", "--data", tmp_path / "text.txt", "--out", tmp_path / "other", *options)
    tokenizer = minigpt.load_tokenizer(tmp_path / "other")
    assert tokenizer.kind == kind and [tokenizer.token_to_id(t) for t in ("[UNK]", "<x>")] == [0, 1]
    values = json.loads((tmp_path / "other" / "tokenizer.json").read_text(encoding="utf-8"))
    assert values["added_tokens"][1]["content"] == "<x>"
    assert kind != "bpe" or len(tokenizer.merges) < 20


def test_train_takes_what_unigram_alone_has(folder, tmp_path, capsys, fail):
    options = ["train", "--data", tmp_path / "text.txt", "--out", tmp_path / "other", "--kind"]
    own = ["unigram", "--vocab-size", 284, "--extra-ids", 2, "--byte-fallback"]
    own += [word for token in ("<x>", "<unk>", "</s>") for word in ("--special-token", token)]
    assert "284 tokens" in tokenized(capsys, *options, *own)
    tokenizer = minigpt.load_tokenizer(tmp_path / "other")
    assert [tokenizer.id_to_token(i) for i in (0, 1, 2, 3, 283)] == ["<x>", "<unk>", "</s>", "<0x00>", "<extra_id_0>"]
    assert tokenizer.byte_fallback and tokenizer.sentinel_ids.tolist() == [283, 282]
    assert "at most" in fail("tokenize", *options, "unigram", "--vocab-size", 5000)
    assert "--min-frequency is not for --kind unigram" in fail("tokenize", *options, "unigram", "--min-frequency", 2)
    assert "--extra-ids is not for --kind bpe" in fail("tokenize", *options, "bpe", "--extra-ids", 2)
    assert "--byte-fallback is not for --kind wordpiece" in fail("tokenize", *options, "wordpiece", "--byte-fallback")


def test_encode_gives_the_ids_of_a_file_or_a_pipe(folder, tmp_path, capsys, piped, monkeypatch):
    monkeypatch.setattr("minigpt.tokenizers.parts.PART", 50)
    monkeypatch.setattr(tokenize, "PART", 7)
    expected = minigpt.load_tokenizer(folder).encode(TEXT).tolist()
    assert (
        tokenized(capsys, "encode", "--tokenizer", folder, tmp_path / "text.txt") == f"{' '.join(map(str, expected))}\n"
    )
    piped(b"\xef\xbb\xbf" + TEXT.encode())
    assert tokenized(capsys, "encode", "--tokenizer", folder).split() == [str(i) for i in expected]
    piped(b"")
    assert tokenized(capsys, "encode", "--tokenizer", folder) == "\n"


def test_special_tokens_are_text_unless_asked_for(folder, capsys, piped):
    for options, expected in (((), "<"), (("--special",), "<|endoftext|>")):
        piped(b"<|endoftext|>")
        first = int(tokenized(capsys, "encode", "--tokenizer", folder, *options).split()[0])
        assert minigpt.load_tokenizer(folder).id_to_token(first) == expected


def test_show_brackets_tokens_where_there_is_no_terminal(folder, capsys, piped):
    text = tokenized(capsys, "show", "--tokenizer", folder, "slow\n\\ \x1b\t😀")
    ids = minigpt.load_tokenizer(folder).encode("slow\n\\ \x1b\t😀").tolist()
    pieces = ["s", "lo", "w", "\\n", "\\\\", " ", "\\x1b", "\\t", "\\xf0\\x9f", "\\x98", "\\x80"]
    words = [f"[{piece}]{i} " for piece, i in zip(pieces, ids)]
    assert text == f"{''.join(words[:4])}\n{''.join(words[4:])}\n11 tokens\n"
    piped(b"w\\")
    assert tokenized(capsys, "show", "--tokenizer", folder) == f"{words[2]}{words[4]}\n2 tokens\n"


@pytest.mark.parametrize("no_color", ["", "1"])
def test_show_colours_tokens_on_a_terminal_that_wants_it(folder, capsys, monkeypatch, no_color):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = tokenized(capsys, "show", "--tokenizer", folder, "slow slow")
    assert ("\x1b[" in text) != bool(no_color)
    assert no_color or text.count("\x1b[0m") == 8


def test_show_of_other_kinds(tmp_path, capsys):
    CharTokenizer("ab\n").save(tmp_path)
    assert tokenized(capsys, "show", "--tokenizer", tmp_path, "b\na") == "[b]1 [\\n]2 \n[a]0 \n3 tokens\n"


@pytest.mark.parametrize(
    ("data", "byte"),
    [(b"a\xff", "0xff at offset 1"), (b"ab\xc3", "0xc3 at offset 2"), (b"\xef\xbb\xbfa\xffb", "offset 4")],
)
@pytest.mark.parametrize("part", [1, 100])
def test_what_is_not_utf8_is_refused_with_its_place(folder, fail, piped, monkeypatch, tmp_path, data, byte, part):
    monkeypatch.setattr(tokenize, "PART", part)
    piped(data)
    assert f"the text piped in isn't UTF-8: byte 0x{data[-1 - (data[-1:] == b'b')]:02x}" in (
        message := fail("tokenize", "encode", "--tokenizer", folder)
    )
    assert byte in message
    (tmp_path / "wrong.txt").write_bytes(data)
    assert f"text file {tmp_path / 'wrong.txt'} isn't UTF-8" in fail(
        *("tokenize", "encode", "--tokenizer", folder, tmp_path / "wrong.txt")
    )


def test_mistakes_are_told_in_one_line(folder, fail, tmp_path):
    assert "no such checkpoint folder" in fail("tokenize", "show", "--tokenizer", tmp_path / "none", "a")
    assert "--tokenizer is empty" in fail("tokenize", "show", "--tokenizer", "", "a")
    assert "--out is empty" in fail("tokenize", "train", "--out", "")
    assert "No such file" in fail("tokenize", "encode", "--tokenizer", folder, tmp_path / "none.txt")
    assert "can't be read" in fail("tokenize", "encode", "--tokenizer", folder, tmp_path)
    text = tmp_path / "text.txt"
    assert "vocab_size is 9" in fail("tokenize", "train", "--data", text, "--out", tmp_path / "x", "--vocab-size", 9)
    assert "half of a UTF-16 pair" in fail("tokenize", "show", "--tokenizer", folder, "\udcff")
    text.write_text("")
    assert "is empty" in fail("tokenize", "train", "--data", text, "--out", tmp_path / "x")
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json: type is missing" in fail("tokenize", "show", "--tokenizer", folder, "a")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_long_pipe_takes_little_memory(folder):
    """40 MB of words go through in the memory of a few."""

    def feed(pipe):
        with pipe:
            for _ in range(40):
                pipe.write((TEXT.encode() * (1_000_000 // len(TEXT.encode()) + 1))[:1_000_000])

    # ru_maxrss would do as well, but begins with what the process that started this one had
    code = "import re, sys; from minigpt.cli import main; main(sys.argv[1:]); "
    code += "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1], file=sys.stderr)"
    command = [sys.executable, "-c", code, "tokenize", "encode", "--tokenizer", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        feeder = threading.Thread(target=feed, args=(process.stdin,))
        feeder.start()
        written = sum(len(part) for part in iter(lambda: process.stdout.read(1 << 20), b""))
        feeder.join()
        peak = int(process.stderr.read().split()[-1])
    assert process.returncode == 0 and written > 20_000_000
    assert peak < 300_000, f"{peak:,} kB"
