"""Where a worker's memory lies: drawn anew for each, because forked workers inherit it.

Workers of one fork server have the same addresses, so a model whose weights happen to lie badly
(lines that collide in a cache, pages that the processor's predictors mix up) is slow in all of
them: an unchanged model, renamed, differed by 0.5 % (standard deviation over fork servers) though
twelve pairs said 0.2 %. Drawn anew for each worker, the layout is a part of what pairs scatter by.
Curtsinger and Berger (ASPLOS 2013) do the same to compiled programs.
"""

from __future__ import annotations

import ctypes
import random

#: What is mapped from now on lies up to so many pages elsewhere.
PAGE_BYTES, MOST_PAGES = 4096, 1 << 12
#: Blocks that are taken, and from 2**6 to 2**14 bytes in size; half of them leave a hole.
BLOCKS, LEAST_BITS, MOST_BITS = 256, 6, 14
_NO_ACCESS, _PRIVATE_ANONYMOUS = 0, 0x22


def scatter(seed: int) -> None:
    """Move what this process allocates from now on to places drawn from a seed (Linux).

    Little of the memory is touched, so that little becomes resident; but what fills the holes later
    does not add to the process's peak, which so depends on the seed.
    """
    drawn = random.Random(seed)  # noqa: S311 - places, no secrets
    libc = _allocator()
    pages = drawn.randrange(1, MOST_PAGES)
    libc.mmap(None, PAGE_BYTES * pages, _NO_ACCESS, _PRIVATE_ANONYMOUS, -1, 0)
    blocks = [libc.malloc(int(2 ** drawn.uniform(LEAST_BITS, MOST_BITS))) for _ in range(BLOCKS)]
    drawn.shuffle(blocks)
    for block in blocks[: BLOCKS // 2]:
        libc.free(block)


def _allocator() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    numbers = [ctypes.c_int] * 3
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *numbers, ctypes.c_long]
    return libc
