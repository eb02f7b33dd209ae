"""The one exception a user's mistake raises."""

LONGEST = 1_000  # characters of a message


class MinigptError(ValueError):
    """Bad input, said in one line that names the thing, the value and the limit.

    The command line prints it without a traceback and exits with code 2. Whatever the message is
    made of (names of files, values of other people's files), it is one line of at most LONGEST
    characters that a terminal and a log can take.
    """

    def __init__(self, message=""):
        super().__init__(one_line(message))


def one_line(message, longest=LONGEST):
    r"""Text in one line: line ends, control characters, lone surrogates and whatever else doesn't
    show are escaped as in repr.

    What is longer loses its middle, since the thing stands at the beginning of a message and the
    limit at its end.

    >>> one_line("a\nb\x1b[2J\udc80")
    'a\\nb\\x1b[2J\\udc80'
    """
    text = str(message)
    if len(text) > 2 * longest:  # before a hundred megabytes are escaped
        text = text[:longest] + text[-longest:]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) > longest:
        end = longest // 3
        text = f"{text[: longest - end - 5]} ... {text[-end:]}"
    return text
