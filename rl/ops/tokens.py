"""Log-probs of completion tokens under a model: rollouts as padded rows, or as one prefix tree.

The tree forwards every distinct prefix once (see rl/ops/layout.py); the values are those of the
plain rows up to rounding. Both see only completion positions in the LM head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from engine.errors import EnvironmentMissing
from rl.ops.forward import attention_window, capability, device_of, layout_hidden, text_config
from rl.ops.layout import Ids, Pair, common_prefix, row_batches, row_layout, tree_batches, tree_layout, tree_size
from rl.ops.logprobs import MAX_LOGITS, token_logprobs

Mode = Literal["auto", "shared", "plain"]
DENSE_TREE = 1024
"""Most tokens of one tree under a dense mask, which costs attention L*L however little is visible."""


def groups_logprobs(
    model: nn.Module,
    prompt_ids: Sequence[Ids],
    completion_ids: Sequence[Sequence[Ids]],
    *,
    temperature: float = 1.0,
    pad_id: int = 0,
    mode: Mode = "auto",
    max_tokens: int = 4096,
    max_logits: int = MAX_LOGITS,
) -> Tensor:
    """(B, T) log-probs of the completions of P groups, with gradient; 0 where there is no token.

    logp[i, t] = log softmax(logits(prompt, o_i[:t]) / temperature)[o_i[t]], in float32.

    prompt_ids: P prompts of at least one token. completion_ids: P lists of completions (of any number
    and length); B counts them all in order, T is the longest. mode: "shared" forwards a prefix tree,
    "plain" padded rows, "auto" the tree where the model takes one and it saves tokens. `max_tokens`
    bounds one forward pass (several are made when needed; trees also stop at 1024 tokens where their
    mask is dense), `max_logits` the logits computed at once.

    Raises InputError for an empty prompt, and EnvironmentMissing if `mode` is "shared" and the model
    cannot take a tree.
    """
    return groups_logprobs_entropy(
        model,
        prompt_ids,
        completion_ids,
        temperature=temperature,
        pad_id=pad_id,
        mode=mode,
        max_tokens=max_tokens,
        max_logits=max_logits,
    )[0]


def groups_logprobs_entropy(
    model: nn.Module,
    prompt_ids: Sequence[Ids],
    completion_ids: Sequence[Sequence[Ids]],
    *,
    temperature: float = 1.0,
    pad_id: int = 0,
    mode: Mode = "auto",
    max_tokens: int = 4096,
    max_logits: int = MAX_LOGITS,
) -> tuple[Tensor, Tensor]:
    """groups_logprobs, and the (B, T) entropies in nats of the distributions, without gradient."""
    device = device_of(model)
    pairs = [(prompt, o) for prompt, group in zip(prompt_ids, completion_ids, strict=True) for o in group]
    longest = max((len(o) for _, o in pairs), default=0)
    if not longest:
        empty = torch.zeros(len(pairs), 0, device=device)
        return empty, empty
    shared = _is_shared(model, pairs, mode)
    batches = tree_batches(pairs, _tree_limit(model, max_tokens)) if shared else row_batches(pairs, max_tokens)
    parts = []
    for batch in batches:
        chosen = [pairs[i] for i in batch]
        layout = tree_layout(chosen, device) if shared else row_layout(chosen, pad_id=pad_id, device=device)
        hidden, head = layout_hidden(model, layout, plain_head=capability(model).plain_head)
        logprobs, entropy = token_logprobs(
            hidden,
            head,
            layout.place,
            layout.token,
            temperature=temperature,
            vocabulary=text_config(model).vocab_size,
            max_logits=max_logits,
        )
        parts.append([_rows(values, layout.index, longest) for values in (logprobs, entropy[layout.place])])
    order = torch.tensor([i for batch in batches for i in batch], device=device).argsort()
    logprobs, entropy = (torch.cat(tensors)[order] for tensors in zip(*parts, strict=True))
    return logprobs, entropy


def shared_prefix_logprobs(
    model: nn.Module, prompt_ids: Ids, completion_ids: Sequence[Ids], *, temperature: float = 1.0
) -> Tensor:
    """(G, T) log-probs of G completions of one prompt, which is forwarded once. See groups_logprobs."""
    return groups_logprobs(model, [prompt_ids], [completion_ids], temperature=temperature, mode="shared")


def sequence_logprobs(
    model: nn.Module, prompt_ids: Sequence[Ids], completion_ids: Sequence[Ids], *, temperature: float = 1.0
) -> Tensor:
    """(B, T) log-probs of one completion a prompt, as padded rows. See groups_logprobs."""
    completions = [[o] for o in completion_ids]
    return groups_logprobs(model, prompt_ids, completions, temperature=temperature, mode="plain")


def completion_mask(completion_ids: Sequence[Sequence[Ids]], device: torch.device | str = "cpu") -> Tensor:
    """(B, T) float mask, 1 at the tokens of each completion; B and T as groups_logprobs has them."""
    lengths = torch.tensor([len(o) for group in completion_ids for o in group], dtype=torch.long, device=device)
    longest = int(lengths.max()) if len(lengths) else 0
    return (torch.arange(longest, device=device) < lengths[:, None]).float()


def micro_batches(
    prompt_ids: Sequence[Ids], completion_ids: Sequence[Sequence[Ids]], max_tokens: int
) -> list[list[int]]:
    """Group indices a micro-batch, in order, so that each one's prefix tree has at most `max_tokens` nodes.

    A single group that is larger gets a micro-batch of its own. Counts what neighbouring prompts
    share, in time linear in the tokens; the tree may turn out smaller.
    """
    batches: list[list[int]] = []
    size = 0
    previous: Ids = ()
    for group, (prompt, completions) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        own = tree_size([(prompt, o) for o in completions])
        new = own - min(own, common_prefix(previous, prompt))
        if not batches or size + new > max_tokens:
            batches.append([])
            size, new = 0, own
        batches[-1].append(group)
        size, previous = size + new, prompt
    return batches


def _is_shared(model: nn.Module, pairs: Sequence[Pair], mode: Mode) -> bool:
    """Whether to forward a tree. Raises EnvironmentMissing if it is asked for and not possible."""
    if mode == "plain":
        return False
    longest = max(len(prompt) + len(completion) for prompt, completion in pairs)
    window = attention_window(model)
    is_able = (window is None or longest <= window) and capability(model).prefix_tree
    if mode == "shared" and not is_able:
        raise EnvironmentMissing(
            f"{type(model).__name__} cannot forward a prefix tree: its attention "
            f"({text_config(model)._attn_implementation}) does not follow a custom mask",
            allowed="attention sdpa, eager or flex_attention, unlimited or within the window",
            next_step="use mode 'plain' or 'auto', or load the model with attn_implementation='sdpa'",
        )
    plain = len(pairs) * longest
    return is_able and tree_size(pairs) < 0.9 * plain


def _tree_limit(model: nn.Module, max_tokens: int) -> int:
    """Tokens of one tree: block masks skip what is not visible, dense masks do not."""
    is_sparse = text_config(model)._attn_implementation == "flex_attention"
    return max_tokens if is_sparse else min(max_tokens, DENSE_TREE)


def _rows(values: Tensor, index: Tensor, length: int) -> Tensor:
    """(B, length) of (M,) values: `index` (B, T) with M meaning 0."""
    # index_select, as indexing adds shared gradients in any order on the CPU, and resumed runs must not differ.
    rows = torch.cat([values, values.new_zeros(1)]).index_select(0, index.flatten()).view_as(index)
    return torch.nn.functional.pad(rows, (0, length - rows.shape[1]))
