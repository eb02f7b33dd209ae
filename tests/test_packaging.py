"""What setup.cfg promises: the oldest versions that are tested are those it allows,
and a wheel lacks no file.
"""

import configparser
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def versions(lines, sign):
    """{name: version without its last zeros} of lines such as "numpy >=1.26"."""
    pairs = [line.split(sign) for line in lines if line and not line.startswith("#")]
    return {name.strip(): version.strip().removesuffix(".0").removesuffix(".0") for name, version in pairs}


def test_oldest_constraints_are_the_bounds_of_setup():
    stated = SETUP["options"]["install_requires"] + SETUP["options.extras_require"]["test"]
    pinned = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8")
    assert versions(pinned.splitlines(), "==") == versions(stated.splitlines(), ">=")


def test_a_wheel_has_each_file_of_the_library():
    library = ROOT / "minigpt"
    with_data = SETUP["options.package_data"].items()
    packed = {path for package, pattern in with_data for path in ROOT.joinpath(*package.split(".")).glob(pattern)}
    for path in library.rglob("*"):
        if path.suffix == ".py":
            assert path.with_name("__init__.py").exists(), f"{path.parent} is no package: find: leaves it out"
        elif path.is_file() and path.suffix != ".pyc":
            assert path in packed, f"{path} is not in options.package_data"


def test_files_of_tests_have_names_of_their_own():
    """pytest can't collect two modules of one name from folders that are no packages."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
