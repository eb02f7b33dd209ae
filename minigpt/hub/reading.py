"""A file's numbers into a model's: in blocks that fit a core's cache, turned, converted and checked
on the way, so that nothing of a tensor's size is taken beside the model.

Measured at 124M parameters: numbers of a Linear, (out, in), turned into ours at once take 2.3 to
3.4 ns each, in blocks that are first copied to rows of another length 0.7 to 0.8 ns. Rows whose
addresses lie a power of two apart share a few lines of the cache. Within the cache turning takes
0.3 ns; the rest is memory that is read and written in pieces. Blocks of other shapes, a second one
from which whole rows are written, pread in place of the map, and MADV_SEQUENTIAL, MADV_HUGEPAGE and
MADV_POPULATE_READ on it were tried: none was faster.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from minigpt.hub.files import FORMATS
from minigpt.machine import usable_threads

BLOCK = 1 << 18  # numbers that are copied at a time
ROWS, COLUMNS, PAD = 64, 1024, 16  # of a block that is turned; numbers between its rows
THREADED = 1 << 22  # numbers from which threads are worth their start
MOST_THREADS = 4  # more do not read memory faster


def read_all(jobs):
    """Fill our arrays from tensors. jobs: [(view of ours, in the file's shape, Tensor)] -> of each
    how many of its numbers are not finite.
    """
    order = sorted(range(len(jobs)), key=lambda i: -jobs[i][0].size)  # large ones first, so that no thread waits long
    if sum(view.size for view, _ in jobs) < THREADED:
        return [read_into(*job) for job in jobs]
    with ThreadPoolExecutor(min(MOST_THREADS, usable_threads())) as pool:
        found = dict(zip(order, pool.map(lambda i: read_into(*jobs[i]), order)))
    return [found[i] for i in range(len(jobs))]


def read_into(out, tensor):
    """Copy a tensor's numbers into an array of its shape, one end to end or a matrix of any strides
    -> how many are not finite.
    """
    if not out.flags.c_contiguous:
        return read_turned(out, tensor)
    flat, bad = out.reshape(-1), 0
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        block[...] = tensor.numbers(start, start + BLOCK)
        bad += not_finite(block)
    return bad


def read_turned(out, tensor):
    """read_into for a matrix whose columns, not its rows, lie side by side in memory."""
    rows, columns = out.shape
    packed = np.empty((ROWS, COLUMNS + PAD), out.dtype)
    bad = 0
    for top in range(0, rows, ROWS):
        height = min(ROWS, rows - top)
        band = tensor.numbers(top * columns, (top + height) * columns).reshape(height, columns)
        for left in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - left)
            block = packed[:height, :width]
            block[...] = band[:, left : left + width]
            bad += not_finite(block)
            out.T[left : left + width, top : top + height] = block.T
    return bad


def not_finite(values):
    """How many numbers of an array are NaN or infinite."""
    return values.size - np.count_nonzero(np.isfinite(values))


def same(a, b):
    """Whether two tensors hold the same numbers; those that are not of floating point do not."""
    if a.shape != b.shape or not {a.dtype, b.dtype} <= FORMATS.keys():
        return False
    blocks = range(0, a.size, BLOCK)
    return all(np.array_equal(a.numbers(i, i + BLOCK), b.numbers(i, i + BLOCK)) for i in blocks)
