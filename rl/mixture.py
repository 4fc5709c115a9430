"""Several checkpoints of a run as one policy: served as a mixture, or averaged into one set of weights.

Self-play (rl.methods.spo) converges on average over time. A mixture of checkpoints is that average: its chance for a
completion is the mean of theirs. The mean of their weights is one model of the usual size and something else: near it
where the checkpoints lie near each other, and not defined by any theory where they do not.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import DataError, InputError
from rl import checkpoint
from rl.config import load
from rl.policies import Policy
from rl.policies.local import LocalPolicy
from rl.trainers.model import load_model, load_tokenizer, require_model
from rl.trainers.seeds import derived_seed
from rl.types import Request, Rollout

__all__ = ["Mixture", "average", "mixture_of"]


class Mixture(Policy):
    """Samples each request with one of several sets of weights, drawn by the request's seed.

    policy: samples, with the set that it is given. members: version -> the weights that differ, as a state dict.
    chances: of each member, in their order; equal by default. The n completions of one request come from one
    member, requests of other seeds are drawn independently, and a rollout's `weight_version` tells the member.
    Raises InputError for chances that are none.
    """

    def __init__(
        self, policy: Policy, members: Mapping[int, Mapping[str, Tensor]], chances: Sequence[float] | None = None
    ) -> None:
        self.policy, self.members = policy, dict(members)
        self.chances = normalized(chances, len(self.members))

    def member(self, request: Request) -> int:
        """The version that samples this request: a function of its seed alone."""
        place = derived_seed("mixture", request.seed) / 2**63
        bounds = [*itertools.accumulate(self.chances)][:-1]
        return [*self.members][sum(place >= bound for bound in bounds)]

    def generate(self, requests: Sequence[Request]) -> list[list[Rollout]]:
        """The rollouts of each request. A member's weights are taken up once a call at most."""
        drawn = [self.member(request) for request in requests]
        rollouts: dict[int, list[Rollout]] = {}
        for version in dict.fromkeys(drawn):
            places = [i for i, member in enumerate(drawn) if member == version]
            self.policy.sync(self.members[version], version)
            rollouts |= zip(places, self.policy.generate([requests[i] for i in places]), strict=True)
        return [rollouts[i] for i in range(len(requests))]

    def sync(self, state: nn.Module | Mapping[str, Tensor] | None, version: int) -> None:
        """Raises InputError: the members are fixed."""
        raise InputError("a mixture takes up no weights", next_step="make a new one with other members")

    def close(self) -> None:
        self.policy.close()


def mixture_of(run: str | Path, chances: Sequence[float] | None = None) -> Mixture:
    """The kept checkpoints of a run as a mixture in this process, on the GPU where there is one.

    Holds a copy of the trained weights for each: adapters alone, where only they were trained. The tokenizer is
    `mixture.policy.tokenizer`. chances: of each, oldest first. Raises DataError where there is no checkpoint,
    CheckpointError for a damaged one, and as `load_model` does.
    """
    found = [checkpoint.require_sound(path) for path in checkpoint.steps(Path(run) / "checkpoints")]
    if not found:
        raise DataError("the run has no checkpoint", place=str(run), next_step="give the folder of a training run")
    record = checkpoint.read_state(found[-1]).record
    experiment = load(record["config"], near=Path(record["near"]) if record["near"] else None)
    path = require_model(experiment.config.model.name, experiment.near)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    members = {}
    for place in found:
        model = load_model(experiment, path, place, device)
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        members[checkpoint.step_of(place)] = {name: p.detach().clone() for name, p in trained}
    policy = LocalPolicy(model, load_tokenizer(path), autocast=experiment.config.model.autocast)
    return Mixture(policy, members, chances)


def average(checkpoints: Sequence[str | Path], destination: str | Path, weights: Sequence[float] | None = None) -> Path:
    """Write a model whose weights are the mean of the checkpoints' into a new folder, in Hugging Face format.

    weights: of each checkpoint, equal by default. Adapters are averaged factor by factor, which is not the mean of
    their products. Raises CheckpointError for a damaged checkpoint, InputError for checkpoints that do not fit
    together and for a folder that is there already.
    """
    found, folder = [checkpoint.require_sound(Path(path)) for path in checkpoints], Path(destination)
    shares = normalized(weights, len(found))
    if folder.exists():
        raise InputError("the folder is there already", place=str(folder), next_step="name a new one")
    ours = shutil.ignore_patterns("*.safetensors", checkpoint.STATE, checkpoint.MANIFEST)
    shutil.copytree(found[-1], folder, ignore=ours)
    for file in sorted(found[-1].glob("*.safetensors")):
        tables = [load_file(path / file.name) for path in found if (path / file.name).exists()]
        if len(tables) < len(found) or any(table.keys() != tables[0].keys() for table in tables):
            raise InputError(f"the checkpoints hold different weights in {file.name}", allowed="checkpoints of one run")
        mean = {name: _mean([table[name] for table in tables], shares) for name in tables[0]}
        save_file(mean, folder / file.name, metadata={"format": "pt"})
    return folder


def normalized(chances: Sequence[float] | None, count: int) -> list[float]:
    """The chances over their sum; equal where none are given. Raises InputError."""
    values = [1.0] * count if chances is None else [float(chance) for chance in chances]
    if len(values) != count or not values or min(values) < 0 or not 0 < math.fsum(values) < math.inf:
        raise InputError(
            f"the chances of {count} checkpoints are {values}", allowed=f"{count} numbers from 0, not all 0"
        )
    return [value / math.fsum(values) for value in values]


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The weighted mean, added up in float64 and given back in the tensors' own dtype."""
    total = torch.zeros(tensors[0].shape, dtype=torch.float64)
    for tensor, share in zip(tensors, shares, strict=True):
        total += tensor.double() * share
    return total.to(tensors[0].dtype)
