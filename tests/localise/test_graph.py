"""Blocks and batches: which nodes belong together, and how many are held at once."""

from __future__ import annotations

import pytest

from harness.localise.graph import Block, Node, Outline, batches, blocks, feedable


def node(index: int, reads: str, gives: str, op: str = "Add") -> Node:
    """Return a node; values are single letters."""
    return Node(
        index=index,
        name="",
        op=op,
        domain="",
        inputs=tuple(reads),
        outputs=tuple(gives),
        bodies=(),
        fx_node="",
        module="",
        line="",
    )


#: x -> a -> b -> d, x -> c -> d, d -> y; w is a weight.
NODES = (node(0, "xw", "a"), node(1, "a", "b"), node(2, "x", "c"), node(3, "bc", "d"),
         node(4, "d", "y"))  # fmt: skip
OUTLINE = Outline(
    nodes=NODES,
    inputs=("x",),
    outputs=("y",),
    weights=frozenset("w"),
    external=(),
    opset=20,
)


def shapes(found: tuple[Block, ...]) -> list[tuple[list[int], str, str]]:
    """Return nodes, inputs and outputs of each block."""
    return [
        (
            [each.index for each in block.nodes],
            "".join(sorted(block.inputs)),
            "".join(block.outputs),
        )
        for block in found
    ]


def test_every_node_is_a_block_where_all_values_are_known() -> None:
    """Each reads what the others give."""
    assert shapes(blocks(OUTLINE, "abcdy")) == [
        ([0], "wx", "a"),
        ([1], "a", "b"),
        ([2], "x", "c"),
        ([3], "bc", "d"),
        ([4], "d", "y"),
    ]


def test_nodes_between_known_values_belong_together() -> None:
    """Nothing tells their errors apart."""
    assert shapes(blocks(OUTLINE, "ay")) == [([0], "wx", "a"), ([1, 2, 3, 4], "ax", "y")]


def test_weights_are_not_fed() -> None:
    """They lie in the model that a block is cut from."""
    assert shapes(feedable(blocks(OUTLINE, "a"), OUTLINE.weights)) == [([0], "x", "a")]


def test_nodes_behind_the_last_known_value_have_no_block() -> None:
    """Whoever searches has to tell that they were not judged."""
    assert shapes(blocks(OUTLINE, "ab")) == [([0], "wx", "a"), ([1], "a", "b")]


def test_constants_are_no_blocks() -> None:
    """They cannot introduce anything that the node which reads them does not."""
    constant = node(0, "", "k", op="Constant")
    outline = Outline(
        nodes=(constant, node(1, "xk", "y")),
        inputs=("x",),
        outputs=("y",),
        weights=frozenset("k"),
        external=(),
        opset=20,
    )
    assert shapes(blocks(outline, "ky")) == [([1], "kx", "y")]
    assert outline.values == ("y",)


@pytest.mark.parametrize(
    ("limit", "lengths"), [(1, [1, 1, 1, 1, 1]), (30, [2, 1, 1, 1]), (1000, [5])]
)
def test_batches_hold_no_more_than_the_limit(limit: int, lengths: list[int]) -> None:
    """A value that several blocks read counts once; one too large is a batch of its own."""
    found = feedable(blocks(OUTLINE, "abcdy"), OUTLINE.weights)
    sizes = dict.fromkeys("xabcdy", 10)
    made = list(batches(found, sizes, limit_bytes=limit))
    assert [len(batch) for batch in made] == lengths
    assert [block for batch in made for block in batch] == list(found)
