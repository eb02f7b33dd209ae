import codecs
import hashlib

import pytest

from minigpt import CharTokenizer, MinigptError
from minigpt.data import read_text


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_read_text_keeps_the_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("é\rb\ufeff\n\n c ".encode())
    found = read_text(path)
    assert found.text == "é\rb\ufeff\n\n c " and found.source == str(path) and found.sha256 == sha256(path.read_bytes())


def test_byte_order_mark_is_no_part_of_the_text(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / encoding).write_text("a\nb\n", encoding=encoding)
    plain, marked = read_text(tmp_path / "utf-8"), read_text(tmp_path / "utf-8-sig")
    assert marked.text == plain.text == "a\nb\n" and marked.sha256 == plain.sha256
    assert CharTokenizer.from_text(marked.text).characters == ["\n", "a", "b"]


def test_text_larger_than_a_quarter_of_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("minigpt.data.text.physical_memory", lambda: 400)
    (tmp_path / "a.txt").write_bytes(b"x" * 101)
    with pytest.raises(MinigptError, match=r"text file .*a\.txt can't be read: it has more than 100 bytes"):
        read_text(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"x" * 100)
    assert len(read_text(tmp_path / "a.txt").text) == 100


def test_read_text_gives_one_text_for_both_line_ends(tmp_path):
    (tmp_path / "unix.txt").write_bytes(b"a\nb\n")
    (tmp_path / "windows.txt").write_bytes(b"a\r\nb\r\n")
    unix, windows = read_text(str(tmp_path / "unix.txt")), read_text(str(tmp_path / "windows.txt"))
    assert windows.text == unix.text == "a\nb\n" and windows.sha256 == unix.sha256


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        ("ab".encode("utf-16"), "is UTF-16, as its first bytes say: save it as UTF-8"),
        ("名前".encode("utf-16"), "is UTF-16"),  # not a single NUL in it
        (codecs.BOM_UTF16_BE + "ab".encode("utf-16-be"), "is UTF-16"),
        ("ab".encode("utf-32"), "is UTF-32"),
        (b"ab\0c", "NUL byte at offset 2"),
        ("abc".encode("utf-16-le"), "NUL byte at offset 1.*UTF-16"),
        (b"caf\xe9 noir", "isn't UTF-8: byte 0xe9 at offset 3"),
        (b"cut \xc3", "byte 0xc3 at offset 4"),
    ],
)
def test_read_text_names_the_fault(tmp_path, data, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(data)
    with pytest.raises(MinigptError, match=message) as caught:
        read_text(path)
    assert "bad.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_read_text_of_no_file(tmp_path):
    with pytest.raises(MinigptError, match=r"none\.txt doesn't exist"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(MinigptError, match="is a directory"):
        read_text(tmp_path)
    with pytest.raises(MinigptError, match="can't be read"):
        read_text("nul\0inside")
