"""minigpt tokenize: train a tokenizer, turn text into ids, and look at the tokens."""

import codecs
import contextlib
import io
import os
import sys

from minigpt.checkpoint import load_tokenizer
from minigpt.cli.options import find_model, folder
from minigpt.cli.terminal import say, visible
from minigpt.data import read_text, tiny_shakespeare
from minigpt.errors import MinigptError, one_line
from minigpt.files import reason
from minigpt.tokenizers import BPETokenizer, UnigramTokenizer, WordPieceTokenizer
from minigpt.tokenizers.parts import encode_parts

KINDS = {"bpe": BPETokenizer, "wordpiece": WordPieceTokenizer, "unigram": UnigramTokenizer}
PART = 1 << 18  # bytes read at a time
BACKGROUNDS = (24, 52, 22, 54, 58)  # of 256 colours: dark blue, red, green, purple, olive, with white text


def add_to(commands):
    """Add the command to the parser's."""
    command = commands.add_parser(
        "tokenize",
        help="train a tokenizer, turn text into ids, show tokens",
        description="Train a tokenizer on a text file, turn text into ids, or show its tokens.",
    )
    actions = command.add_subparsers(metavar="ACTION", required=True, help="what to do")
    add_train(actions)
    text = "write the ids of a text, with spaces between, in one line"
    encode = actions.add_parser("encode", help=text, description=f"{text[0].upper()}{text[1:]}; of a pipe as it comes.")
    add_tokenizer_option(encode)
    encode.add_argument("file", metavar="FILE", nargs="?", help="UTF-8 text file (default: what is piped in)")
    encode.set_defaults(run=run_encode)
    text = "show a text token by token, with ids"
    show = actions.add_parser(
        "show",
        help=text,
        description=f"{text[0].upper()}{text[1:]}: coloured on a terminal, in brackets elsewhere or where NO_COLOR is "
        "set. Control characters and bytes that are no character are shown as escapes.",
    )
    add_tokenizer_option(show)
    show.add_argument("text", metavar="TEXT", nargs="?", help="the text itself (default: what is piped in)")
    show.set_defaults(run=run_show)


def add_train(actions):
    """minigpt tokenize train."""
    text = "make a tokenizer for a text file"
    train = actions.add_parser("train", help=text, description=f"{text[0].upper()}{text[1:]} and write it to a folder.")
    train.add_argument("--data", metavar="FILE", help="UTF-8 text file (default: tiny Shakespeare, fetched once)")
    train.add_argument("--out", metavar="DIR", required=True, help="folder to write to")
    train.add_argument("--kind", choices=tuple(KINDS), default="bpe", help="kind of tokenizer (default: bpe)")
    text = "tokens at most, of unigram exactly so many (default: 1000)"
    train.add_argument("--vocab-size", type=int, default=1000, metavar="N", help=text)
    text = "merge no pair that is rarer, of bpe and wordpiece (default: 1)"
    train.add_argument("--min-frequency", type=int, metavar="N", help=text)
    text = "sentinels <extra_id_...> at the end, of unigram (default: 100, as T5)"
    train.add_argument("--extra-ids", type=int, metavar="N", help=text)
    text = "write a character that is no piece by its bytes, of unigram (default: as unknown)"
    train.add_argument("--byte-fallback", action="store_true", default=None, help=text)
    text = "a special token, in place of the usual ones of the kind; may be given several times (default: those)"
    train.add_argument("--special-token", action="append", metavar="TOKEN", help=text)
    train.set_defaults(run=run_train)


def add_tokenizer_option(command):
    """--tokenizer DIR and --special."""
    text = "folder with a tokenizer, or with a checkpoint, ours or Hugging Face's"
    command.add_argument("--tokenizer", metavar="DIR", required=True, help=text)
    text = "find special tokens in the text, and add those that a model expects around it (default: neither)"
    command.add_argument("--special", action="store_true", help=text)


def read_tokenizer(args):
    """The tokenizer that --tokenizer names. MinigptError where there is none."""
    directory = folder(args.tokenizer, "--tokenizer")
    found = find_model(directory)
    tokenizer = load_tokenizer(found)
    if tokenizer is None:
        raise MinigptError(f"{found}: there is no tokenizer.json")
    return tokenizer


def run_train(args):
    """From a text to a folder with a tokenizer."""
    out = folder(args.out, "--out")
    settings = train_settings(args)
    corpus = tiny_shakespeare(say=say) if args.data is None else read_text(args.data)
    tokenizer = KINDS[args.kind].train(corpus.text, args.vocab_size, **settings)
    tokenizer.save(out)
    size = len(tokenizer.encode(corpus.text))
    per_token = f"{len(corpus.text.encode()) / max(size, 1):.2f} bytes a token"
    say(f"{tokenizer.vocab_size:,} tokens; {one_line(corpus.source)} is {size:,} of them, {per_token}")
    say(f"written to {one_line(out)}")


def train_settings(args):
    """The settings of a kind's training that were given. MinigptError for one of another kind."""
    own = ("extra_ids", "byte_fallback") if args.kind == "unigram" else ("min_frequency",)
    settings = {} if args.special_token is None else {"special_tokens": tuple(args.special_token)}
    if args.kind != "unigram":
        settings["min_frequency"] = 1
    for name in ("min_frequency", "extra_ids", "byte_fallback"):
        if (value := getattr(args, name)) is not None:
            if name not in own:
                option = f"--{name.replace('_', '-')}"
                raise MinigptError(f"{option} is not for --kind {args.kind}; it has --{own[0].replace('_', '-')}")
            settings[name] = value
    return settings


def run_encode(args):
    """Ids of a file or a pipe, as they come."""
    tokenizer, separator = read_tokenizer(args), ""
    for ids in encode_parts(tokenizer, text_parts(args.file), args.special):
        if len(ids):
            sys.stdout.write(separator + " ".join(map(str, ids.tolist())))
            separator = " "
    print()


def run_show(args):
    """A text token by token."""
    tokenizer = read_tokenizer(args)
    text = "".join(text_parts(None)) if args.text is None else args.text
    ids = tokenizer.encode(text, args.special).tolist()
    coloured = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for i, token_id in enumerate(ids):
        piece = shown(tokenizer, token_id)
        if coloured:
            colour = BACKGROUNDS[i % len(BACKGROUNDS)]
            sys.stdout.write(f"\x1b[97;48;5;{colour}m{piece}\x1b[0m\x1b[2m{token_id}\x1b[0m ")
        else:
            sys.stdout.write(f"[{piece}]{token_id} ")
        if tokenizer.spelled(token_id).endswith("\n"):
            print()
    print(f"\n{len(ids):,} tokens")


def shown(tokenizer, token_id):
    r"""A token as text in one line: control characters, and bytes that are no character, as
    escapes; a backslash stands twice.
    """
    text = tokenizer.spelled(token_id).replace("\\", "\\\\")
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return visible(text.replace("\n", "\\n").replace("\t", "\\t"))


def text_parts(path):
    """Parts of a UTF-8 file, or of stdin for None, without the mark that some editors put first.
    MinigptError where it can't be read, or isn't UTF-8.
    """
    name = "the text piped in" if path is None else f"text file {path}"
    decoder, done = codecs.getincrementaldecoder("utf-8-sig")(), 0
    try:
        with open_input(path) as file:
            while part := file.read(PART):
                text = decoder.decode(part)
                done += len(part)
                yield text
            yield decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        at = done - (len(error.object) - len(part)) + error.start if part else done - len(error.object) + error.start
        raise MinigptError(f"{name} isn't UTF-8: byte 0x{error.object[error.start]:02x} at offset {at}") from None
    except (OSError, ValueError) as error:
        raise MinigptError(f"{name} can't be read: {reason(error)}") from None


def open_input(path):
    """A file to read bytes from: the one at a path, or stdin, which stays open."""
    if path is not None:
        return open(path, "rb")
    return contextlib.nullcontext(io.BytesIO() if sys.stdin is None else sys.stdin.buffer)
