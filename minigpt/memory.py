"""How much memory there is, and whether a plan fits, asked before any of it is taken."""

import ctypes
import os
import sys

from minigpt.errors import MinigptError


def physical_memory():
    """Bytes of memory of this machine, or None where the system does not say."""
    if sys.platform == "win32":

        class Status(ctypes.Structure):  # MEMORYSTATUSEX of the Windows API
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
                (name, ctypes.c_ulonglong) for name in ("total", "free", "pages", "free_pages", "virtual", "free_virtual", "extended")
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
