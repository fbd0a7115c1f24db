"""Where a worker's memory lies: forked children of one process, told apart by a seed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

from harness.runtimes.launchers import WORKER_FOLDER

#: Forks a child for each seed; each tells where blocks of some sizes come to lie.
CHILDREN = """
    import json, os, sys
    sys.path.insert(0, sys.argv[1])
    import layout

    libc = layout._allocator()
    for text in sys.argv[2:]:
        sys.stdout.flush()
        if os.fork() == 0:
            if text != "none":
                layout.scatter(int(text))
            found = [libc.malloc(size) for size in (64, 4096, 16384, 1 << 22)]
            print(json.dumps(found), flush=True)
            os._exit(0)
        os.wait()
"""


def addresses(*seeds: str) -> list[list[int]]:
    """Return where the children's blocks lie, for each seed."""
    program = textwrap.dedent(CHILDREN)
    command = [sys.executable, "-I", "-c", program, str(WORKER_FOLDER), *seeds]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def test_forked_children_share_their_layout() -> None:
    """What is to be mended: without a seed all blocks lie where they lie in every child."""
    first, second = addresses("none", "none")
    assert first == second


def test_another_seed_is_another_layout() -> None:
    """Blocks of every size move, and not all by the same distance."""
    found = addresses("1", "2", "3")
    for blocks in zip(*found, strict=True):
        assert len(set(blocks)) == len(found)
    moves = {one - other for one, other in zip(found[0], found[1], strict=True)}
    assert len(moves) > 1


def test_a_seed_gives_its_layout_again() -> None:
    """A run can be repeated from its stored seed."""
    first, second = addresses("7", "7")
    assert first == second
