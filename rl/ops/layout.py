"""How token sequences are laid out for one forward pass: as padded rows, or as one prefix tree.

A prefix tree holds every distinct prefix once, so the prompt of a group is forwarded once, and so
is everything else that sequences share: few-shot examples common to several prompts, and the first
tokens of equal completions. Its nodes stand in preorder, where the subtree of node k is the range
[k, end_k). So node q may attend to node k iff k <= q < end_k: two integers a node are the whole mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise

import torch
from torch import Tensor

from engine.errors import InputError

Ids = Sequence[int]
Pair = tuple[Ids, Ids]
"""Prompt ids and completion ids of one rollout."""


@dataclass(frozen=True)
class Layout:
    """The input of one forward pass, and where the log-probs of its completions are found.

    R rows of L inputs; N places that predict a completion token; M distinct (place, token) pairs;
    B rollouts of at most T completion tokens. `ids` (R, L). `positions` (R, L) and `ends` (L,) for
    a prefix tree (R = 1), None for rows. `padding` (R, L): 1 at real tokens, None for a tree.
    `keep` (N,): flat indices into R*L. `place` (M,): indices into `keep`, ascending; `token` (M,).
    `index` (B, T): indices into M, and M itself where there is no token.
    """

    ids: Tensor
    positions: Tensor | None
    ends: Tensor | None
    padding: Tensor | None
    keep: Tensor
    place: Tensor
    token: Tensor
    index: Tensor


@dataclass
class _Tree:
    """Nodes in preorder. `paths`: the nodes of each sequence's tokens, in the order given."""

    tokens: list[int]
    depth: list[int]
    end: list[int]
    paths: list[list[int]]


def tree_layout(pairs: Sequence[Pair], device: torch.device | str = "cpu") -> Layout:
    """The Layout of one prefix tree over `pairs`; leaves predict nothing and are not forwarded.

    Raises InputError if a prompt is empty.
    """
    _check_prompts(pairs)
    tree = _prefix_tree([(*prompt, *completion) for prompt, completion in pairs])
    inner = [node for node in range(len(tree.tokens)) if tree.end[node] > node + 1]
    inner_before = _counts(inner, len(tree.tokens))
    targets: dict[tuple[int, int], int] = {}
    for path, (prompt, _) in zip(tree.paths, pairs, strict=True):
        for parent, child in zip(path[len(prompt) - 1 :], path[len(prompt) :], strict=False):
            targets[inner_before[parent], child] = 0
    ordered = sorted(targets)
    number = {child: m for m, (_, child) in enumerate(ordered)}
    rows = [[number[node] for node in path[len(prompt) :]] for path, (prompt, _) in zip(tree.paths, pairs, strict=True)]
    tensor = _integers(device)
    return Layout(
        ids=tensor([tree.tokens[node] for node in inner]).unsqueeze(0),
        positions=tensor([tree.depth[node] for node in inner]).unsqueeze(0),
        ends=tensor([inner_before[tree.end[node]] for node in inner]),
        padding=None,
        **_places([parent for parent, _ in ordered], device),
        token=tensor([tree.tokens[child] for _, child in ordered]),
        index=tensor(_pad(rows, len(ordered))),
    )


def row_layout(pairs: Sequence[Pair], *, pad_id: int = 0, device: torch.device | str = "cpu") -> Layout:
    """The Layout of one row a rollout, padded on the right; each row without its last token.

    Raises InputError if a prompt is empty.
    """
    _check_prompts(pairs)
    inputs = [[*prompt, *completion][: len(prompt) + max(len(completion) - 1, 0)] for prompt, completion in pairs]
    length = max(map(len, inputs))
    starts = [row * length + len(prompt) - 1 for row, (prompt, _) in enumerate(pairs)]
    parents = [range(start, start + len(pair[1])) for start, pair in zip(starts, pairs, strict=True)]
    firsts = [0]
    for _, completion in pairs:
        firsts.append(firsts[-1] + len(completion))
    tensor = _integers(device)
    return Layout(
        ids=tensor(_pad(inputs, pad_id)),
        positions=None,
        ends=None,
        padding=tensor(_pad([[1] * len(row) for row in inputs], 0)),
        **_places(list(chain.from_iterable(parents)), device),
        token=tensor(list(chain.from_iterable(completion for _, completion in pairs))),
        index=tensor(_pad([list(range(a, b)) for a, b in pairwise(firsts)], firsts[-1])),
    )


def tree_batches(pairs: Sequence[Pair], max_tokens: int) -> list[list[int]]:
    """Indices of `pairs` a forward pass, so that each pass' prefix tree has at most `max_tokens` nodes.

    Neighbours in lexicographic order go together, as they share most. A single pair that is longer
    than `max_tokens` gets a pass of its own.
    """
    sequences = [(*prompt, *completion) for prompt, completion in pairs]
    batches: list[list[int]] = []
    size = max_tokens
    previous: tuple[int, ...] = ()
    for i in sorted(range(len(sequences)), key=sequences.__getitem__):
        new = len(sequences[i]) - common_prefix(previous, sequences[i])
        if not batches or size + new > max_tokens:
            batches.append([])
            size, new = 0, len(sequences[i])
        batches[-1].append(i)
        size, previous = size + new, sequences[i]
    return batches


def row_batches(pairs: Sequence[Pair], max_tokens: int) -> list[list[int]]:
    """Indices of `pairs` a forward pass, so that each pass has at most `max_tokens` tokens with padding.

    Rows of like length go together. A single pair that is longer gets a pass of its own.
    """
    lengths = [len(prompt) + len(completion) for prompt, completion in pairs]
    batches: list[list[int]] = []
    for i in sorted(range(len(pairs)), key=lambda i: lengths[i]):
        if not batches or lengths[i] * (len(batches[-1]) + 1) > max_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches


def tree_size(pairs: Sequence[Pair]) -> int:
    """Number of distinct prefixes of `pairs`: the nodes of their tree."""
    sequences = sorted((*prompt, *completion) for prompt, completion in pairs)
    return sum(len(b) - common_prefix(a, b) for a, b in zip([(), *sequences], sequences, strict=False))


def common_prefix(a: Ids, b: Ids) -> int:
    """Number of ids with which both begin."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _prefix_tree(sequences: Sequence[tuple[int, ...]]) -> _Tree:
    """In lexicographic order each sequence continues the path that it shares with the one before."""
    tree = _Tree([], [], [], [[] for _ in sequences])
    path: list[int] = []
    previous: tuple[int, ...] = ()
    for i in sorted(range(len(sequences)), key=sequences.__getitem__):
        shared = common_prefix(previous, sequences[i])
        for node in path[shared:]:
            tree.end[node] = len(tree.tokens)
        path = path[:shared]
        for token in sequences[i][shared:]:
            path.append(len(tree.tokens))
            tree.tokens.append(token)
            tree.depth.append(len(path) - 1)
            tree.end.append(0)
        tree.paths[i], previous = path, sequences[i]
    for node in path:
        tree.end[node] = len(tree.tokens)
    return tree


def _counts(chosen: Sequence[int], size: int) -> list[int]:
    """For each of 0..size how many of the ascending `chosen` are below it."""
    below = [0] * (size + 1)
    for node in chosen:
        below[node + 1] = 1
    for node in range(size):
        below[node + 1] += below[node]
    return below


def _places(parents: Sequence[int], device: torch.device | str) -> dict[str, Tensor]:
    """`keep` and `place` of ascending flat indices."""
    keep, place = torch.unique(torch.tensor(parents, dtype=torch.long), return_inverse=True)
    return {"keep": keep.to(device), "place": place.to(device)}


def _pad(rows: Sequence[Sequence[int]], value: int) -> list[list[int]]:
    length = max(map(len, rows), default=0)
    return [[*row, *[value] * (length - len(row))] for row in rows]


def _integers(device: torch.device | str) -> Callable[[list[int] | list[list[int]]], Tensor]:
    return partial(torch.tensor, dtype=torch.long, device=device)


def _check_prompts(pairs: Sequence[Pair]) -> None:
    for row, (prompt, _) in enumerate(pairs):
        if not len(prompt):
            raise InputError(
                f"rollout {row} has an empty prompt",
                allowed="at least one prompt token, which predicts the first completion token",
                next_step="start the prompt with the tokenizer's BOS token",
            )
