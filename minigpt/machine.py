"""This machine: memory, and whether a plan fits, asked before any of it is taken; cores and
threads; the allocator.
"""

import ctypes
import os
import re
import sys

from minigpt.checks import shortened
from minigpt.errors import MinigptError

# Settings of the environment that limit threads: OpenMP's, and those of OpenBLAS (two names), MKL,
# BLIS and Accelerate
THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
)
THREAD_SETTINGS += ("VECLIB_MAXIMUM_THREADS",)


def physical_memory():
    """Bytes of memory of this machine, or None where the system does not say."""
    if sys.platform == "win32":

        class Status(ctypes.Structure):  # MEMORYSTATUSEX of the Windows API
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
                (name, ctypes.c_ulonglong)
                for name in ("total", "free", "pages", "free_pages", "virtual", "free_virtual", "extended")
            ]

        status = Status(length=ctypes.sizeof(Status))
        return status.total if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def check_memory(needed, what):
    """MinigptError where `needed` bytes for `what` are more than this machine has."""
    total = physical_memory()
    if total is not None and needed > total:
        raise MinigptError(f"{what} would take about {readable(needed)} of memory; this machine has {readable(total)}")


def readable(size):
    """Bytes as a person writes them: 1500000 -> '1.5 MB'."""
    power = 0
    while size >= 1000 and power < 5:
        size, power = size / 1000, power + 1
    return f"{size:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def available_cores():
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_settings():
    """What the environment says of threads: name of the setting -> threads, for those that are a
    whole number of at least 1.

    Of a list, OpenMP's form for nested threads, the first counts. Anything else is passed over, as
    OpenMP and OpenBLAS do.
    """
    values = {name: os.environ.get(name, "").split(",")[0].strip() for name in THREAD_SETTINGS}
    return {name: int(value) for name, value in values.items() if re.fullmatch("0*[1-9][0-9]{0,8}", value)}


def usable_threads():
    """How many threads to use unless told otherwise: the available cores, or the least that a
    setting of the environment allows.
    """
    return min([available_cores(), *thread_settings().values()])


def describe_settings(settings):
    """{"OMP_NUM_THREADS": 2} -> "OMP_NUM_THREADS=2"."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def check_threads(threads, shards=None):
    """MinigptError unless threads is "auto" or a whole number from 1 to shards, where these are
    given.
    """
    if threads == "auto":
        return
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise MinigptError(f"threads is {shortened(threads)}, it must be auto or a whole number of at least 1")
    if threads < 1:
        raise MinigptError(f"threads is {threads}, it must be at least 1")
    if shards is not None and threads > shards:
        raise MinigptError(f"threads is {threads}, there are only {shards} shards for them to work on")


def keep_freed_memory():
    """Have glibc keep freed blocks for reuse, instead of giving large ones back to the system at
    each free: 97 ms against 61 ms a step.

    Process-wide, hence an explicit call. Elsewhere than on glibc it does nothing. -> whether it was
    done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has no mallopt
        return False
    # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX of malloc.h
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    # older glibc refuses more than 32 MiB
    done = [mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, 1 << 25)]
    done += [mallopt(trim_threshold, (1 << 31) - 1), mallopt(arena_max, 1)]
    return all(done)
