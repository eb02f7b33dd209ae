import os
import threading
from pathlib import Path

import pytest

from minigpt import MinigptError, files
from minigpt.files import (
    Missing,
    Unreadable,
    Values,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    write_atomically,
    write_text,
)


def test_text_comes_back_without_the_mark_of_some_editors(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a").write_text("é\r\nb", encoding=encoding, newline="")
        assert read_text(tmp_path / "a") == "é\r\nb"


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(Missing, match="none is missing"):
        read_text(tmp_path / "none")
    with pytest.raises(Unreadable, match="can't be read"):
        read_text(tmp_path)
    with pytest.raises(MinigptError, match="can't be read"):
        read_text("nul\0inside")
    (tmp_path / "a").write_bytes(b"ab\xff")
    with pytest.raises(MinigptError, match="a can't be read: byte 0xff at offset 2 is not UTF-8"):
        read_text(tmp_path / "a")
    with pytest.raises(MinigptError, match="it has more than 2 bytes"):
        read_bytes(tmp_path / "a", 2)
    assert read_bytes(tmp_path / "a", 3) == b"ab\xff"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a file without an end")
def test_file_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(files, "LARGEST_TEXT", 1000)
    with pytest.raises(MinigptError, match="/dev/zero can't be read: it has more than 1,000 bytes"):
        read_json("/dev/zero")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "'1e999' is too large"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[" * 10**5, "not valid JSON"),
        ('{"a": ' * 10**5, "not valid JSON"),
        ("[1]", r"here is \[1\], it must be a JSON object"),
        ("null", "here is None, it must be a JSON object"),
    ],
)
def test_bad_json_is_told_in_one_line(text, message):
    with pytest.raises(MinigptError, match=message) as caught:
        parse_json(text, "here")
    assert str(caught.value).startswith("here is ")


def values(**given):
    return Values(given, "file.json")


def test_values_are_checked_as_they_are_taken():
    v = values(
        n=2, x=0.5, on=True, name="a", rows=[1, 2.5], parts=[{"n": 1}], words=["a"], inner={"n": 3}, nothing=None
    )
    assert v.whole("n", at_least=2, at_most=2) == 2
    assert v.number("x", at_least=0, below=1) == 0.5
    assert v.flag("on") is True
    assert v.text("name") == v.one_of("name", ("a", "b")) == "a"
    assert v.list("rows", length=2) == v.numbers("rows") == [1, 2.5]
    assert v.texts("words") == ["a"]
    assert v.section("inner").whole("n") == 3
    assert [part.whole("n") for part in v.sections("parts")] == [1]
    assert "n" in v and "m" not in v and len(v) == 9 and list(v)[:2] == ["n", "x"]


TAKERS = ("whole", "number", "flag", "text", "list", "numbers", "texts", "section", "sections")


@pytest.mark.parametrize("taker", TAKERS)
def test_missing_value_is_its_default_or_an_error(taker):
    v = values(nothing=None)
    assert getattr(v, taker)("none", default=None) is None
    assert getattr(v, taker)("none", default=7) == 7
    assert getattr(v, taker)("nothing", default=None) is None
    with pytest.raises(MinigptError, match=r"^file\.json: none is missing$"):
        getattr(v, taker)("none")
    for default in ({}, {"default": 7}):
        with pytest.raises(MinigptError, match=r"^file\.json: nothing is None, it must be"):
            getattr(v, taker)("nothing", **default)


@pytest.mark.parametrize("taker", TAKERS)
def test_value_of_another_type_is_an_error(taker):
    right = {"whole": (3,), "number": (3, 0.5), "flag": (True,), "text": ("a",), "section": ({},)}.get(taker, ([],))
    for value in (3, 0.5, True, "a", {}, [], [[]], [None], "x" * 5000):
        good = any(type(value) is type(r) and value == r for r in right)
        try:
            getattr(values(key=value), taker)("key")
        except MinigptError as error:
            assert not good or taker == "text"
            assert str(error).startswith("file.json: key") and len(str(error)) < 200
        else:
            assert good or (taker == "list" and isinstance(value, list)) or (taker == "text" and isinstance(value, str))


def test_entries_are_named_by_their_place():
    with pytest.raises(MinigptError, match=r"file\.json: rows\[1\] is 'a', it must be a number"):
        values(rows=[1, "a"]).numbers("rows")
    with pytest.raises(MinigptError, match=r"file\.json: rows has 2 entries, it must have 3"):
        values(rows=[1, 2]).numbers("rows", length=3)
    with pytest.raises(MinigptError, match=r"file\.json: inner: n is missing"):
        values(inner={}).section("inner").whole("n")
    with pytest.raises(MinigptError, match=r"file\.json: parts\[0\]: n is '1'"):
        values(parts=[{"n": "1"}]).sections("parts")[0].whole("n")
    with pytest.raises(MinigptError, match=r"file\.json: unknown key 'm'; known are n"):
        values(n=1, m=2).refuse_unknown(("n",))


# writing


def test_write_atomically_takes_text_bytes_and_a_writer(tmp_path):
    write_atomically(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"
    write_atomically(str(tmp_path / "a"), b"\xff")
    assert (tmp_path / "a").read_bytes() == b"\xff"
    write_atomically(tmp_path / "a", lambda path: write_text(path, "by a writer"))
    assert (tmp_path / "a").read_text() == "by a writer"
    assert os.listdir(tmp_path) == ["a"]
    write_atomically(tmp_path / "a", "a name that is not UTF-8: \udc80")
    assert (tmp_path / "a").read_text() == "a name that is not UTF-8: \\udc80"


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name):
    write_atomically(tmp_path / "a", "old")
    monkeypatch.setattr(os, name, lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for content in ("new", b"new", lambda path: write_text(path, "new")):
        with pytest.raises(OSError, match="No space"):
            write_atomically(tmp_path / "a", content)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    texts = [str(i) * 10_000 for i in range(4)]
    failures = []

    def write(text):
        try:
            for _ in range(20):
                write_atomically(tmp_path / "a", text)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "a").exists():
            assert (tmp_path / "a").read_text() in texts
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(tmp_path) == ["a"]


def test_file_with_the_longest_name(tmp_path):
    write_atomically(tmp_path / ("n" * 250), "x")
    assert os.listdir(tmp_path) == ["n" * 250]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_written_file_can_be_read_by_whom_the_user_lets_read(tmp_path):
    write_atomically(tmp_path / "a", "x")
    Path(tmp_path / "mine").write_text("x")
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "mine").st_mode
