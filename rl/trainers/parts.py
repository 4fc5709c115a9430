"""What a loop drives, built from an experiment in two stages: first what is cheap and finds most mistakes."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn

from engine.errors import ConfigError, DataError, EngineError, InputError
from rl.checkpoint import step_of
from rl.config import Experiment
from rl.methods.base import Method
from rl.policies import DEFAULT, Policy, Setup, resolve
from rl.policies import load as load_policy
from rl.rewards import Reward, Scorer, load_reward, score_groups
from rl.sources.base import require_answers
from rl.trainers.evaluation import Sampler
from rl.trainers.model import (
    accelerator_for_this_launch,
    load_model,
    load_reference,
    load_tokenizer,
    model_size,
    require_model,
)
from rl.trainers.soft_prompt import prefix_of
from rl.types import Group, Prompt, Rollout


@dataclass
class Prepared:
    """The parts that need no weights: enough for a dry run to meet every mistake of a config."""

    experiment: Experiment
    accelerator: Any
    model_path: str
    tokenizer: Any
    source: Any
    scorer: Scorer
    method: Method

    @classmethod
    def of(cls, experiment: Experiment) -> Prepared:
        """Raises EngineError, with the place in the config, for whatever cannot be had."""
        seed, near = experiment.config.seed, experiment.near
        with placed(experiment, "source"):
            source = experiment.source_class(experiment.source, seed=seed, near=near)
        specs = enumerate(experiment.config.rewards)
        rewards = [load_reward(spec, near, place=experiment.place("rewards", i)) for i, spec in specs]
        with placed(experiment, "rewards"):
            _require_columns(rewards, source)
        policy_of(experiment)
        with placed(experiment, "method"):
            method = experiment.method_class(experiment.method, seed=seed, near=near)
        if method.trainer == "offline":
            _require_parts(method, source, experiment)
        if method.trainer == "zeroth_order" and method.config.objective == "loss":
            require_answers(source, experiment.place("source"))
        with placed(experiment, "model", "name"):
            model_path = require_model(experiment.config.model.name, near)
        return cls(
            experiment=experiment,
            accelerator=accelerator_for_this_launch(),
            model_path=model_path,
            tokenizer=load_tokenizer(model_path),
            source=source,
            scorer=Scorer(rewards),
            method=method,
        )

    def built(
        self, checkpoint: Path | None, *, folder: Path | None = None, say: Callable[[str], None] | None = None
    ) -> Parts:
        """All parts, with the weights of the checkpoint or the starting ones; the policy has them too.

        folder: for what a policy wants to write. say: takes its lines for people.
        """
        experiment, device = self.experiment, self.accelerator.device
        model = load_model(experiment, self.model_path, checkpoint, device)
        reference = load_reference(experiment, self.model_path, device) if self.method.needs_reference else None
        config = experiment.config
        setup = Setup(
            model=model,
            tokenizer=self.tokenizer,
            model_path=self.model_path,
            autocast=config.model.autocast,
            sampling=config.policy,
            folder=folder,
            is_main=self.accelerator.is_main_process,
            run=self._run_token(),
            say=say,
        )
        policy = policy_of(experiment).of(setup)
        try:
            policy.sync(model, step_of(checkpoint) if checkpoint else 0)
        except BaseException:
            policy.close()
            raise
        sampler = Sampler(policy, self.tokenizer, self.scorer, config.policy, config.seed, prefix_of(model))
        return Parts(prepared=self, model=model, reference=reference, policy=policy, sampler=sampler)

    def _run_token(self) -> str:
        """A name that tells this run from others, the same in all processes."""
        token = [secrets.token_hex(4)]
        broadcast_object_list(token)
        return token[0]

    def facts(self) -> dict[str, str]:
        """The numbers that follow from the config, for people."""
        config = self.experiment.config
        total, trained = model_size(self.experiment, self.model_path)
        each = 2 if config.model.dtype == "bfloat16" else 4
        return {
            "model": f"{config.model.name}: {total / 1e6:.1f} M weights, {trained / 1e6:.1f} M trained",
            "method": f"{self.experiment.method.kind} ({self.method.title})",
            **self._loop_facts(),
            "processes": f"{self.accelerator.num_processes} on {self.accelerator.device}",
            **self._memory_facts(total * each / 2**30, trained * each / 2**30),
        }

    def _loop_facts(self) -> dict[str, str]:
        facts = {
            "online": self._online_facts,
            "offline": self._offline_facts,
            "zeroth_order": self._zeroth_order_facts,
        }
        return facts[self.method.trainer]()

    def _memory_facts(self, total: float, trained: float) -> dict[str, str]:
        """What weights take, in GiB."""
        keep = self.experiment.config.trainer.keep
        if self.method.trainer == "zeroth_order":
            return {
                "memory": f"{total:.2f} GiB for weights, no gradients and no moments",
                "checkpoints": f"{keep} kept, about {trained:.2f} GiB each",
            }
        return {
            "memory": f"{total + 3 * trained:.2f} GiB for weights, gradients and moments",
            "checkpoints": f"{keep} kept, about {3 * trained:.2f} GiB each",
        }

    def _zeroth_order_facts(self) -> dict[str, str]:
        config, method = self.experiment.config, self.method  # type: Any, Any
        trainer, policy = config.trainer, config.policy
        completions = f"{policy.completions} completions of each of {trainer.prompts} prompts"
        objectives = {
            "loss": f"the loss of {trainer.prompts} answers",
            "reward": f"the reward of {completions}",
            "samples": f"what a ranker says of {completions}",
        }
        return {
            "objective": objectives[method.config.objective],
            "updates": f"{trainer.steps} steps",
            "sampler": policy_of(self.experiment).summary(policy),
        }

    def _offline_facts(self) -> dict[str, str]:
        trainer, method = self.experiment.config.trainer, self.method  # type: Any, Any
        first = method.uses[0]
        size = len(self.source.parts[first])
        return {
            "rows": ", ".join(f"{name} {len(rows)}" for name, rows in self.source.evaluation().items()),
            "updates": f"{trainer.steps} steps of {trainer.prompts} rows of {' and '.join(method.uses)}",
            "epochs": f"{trainer.steps * trainer.prompts / size:.1f} of the {size} rows of {first}",
        }

    def _online_facts(self) -> dict[str, str]:
        config = self.experiment.config
        policy, trainer = config.policy, config.trainer
        iterations = max(trainer.iterations, self.method.iterations)
        updates = iterations * trainer.minibatches
        rollouts = trainer.prompts * policy.completions
        return {
            "rollouts a batch": f"{trainer.prompts} prompts x {policy.completions} completions = {rollouts}",
            "tokens": f"at most {rollouts * policy.max_tokens} sampled, {trainer.micro_batch_tokens} a forward pass",
            "updates": f"{trainer.steps} steps, {updates} a batch: {-(-trainer.steps // updates)} batches",
            "sampler": policy_of(self.experiment).summary(policy),
            "control": trainer.control,
        }


def policy_of(experiment: Experiment) -> type[Policy]:
    """The policy that the config means on this machine. Raises EngineError unless it can do what is asked of it."""
    sampling = experiment.config.policy
    if experiment.method_class.trainer == "offline":  # the model itself, to measure what it says
        return load_policy(DEFAULT)
    place = experiment.place("policy", "engine")
    if experiment.has_soft_prompt:
        if sampling.engine not in ("auto", DEFAULT):
            raise ConfigError(
                f"a soft prompt is vectors, and the policy {sampling.engine} takes token ids of its vocabulary alone",
                place=place,
                allowed=DEFAULT,
            )
        chosen = load_policy(DEFAULT)
    else:
        chosen = load_policy(resolve(sampling, place=place), place=place)
    chosen.require(sampling, lambda *path: experiment.place("policy", *path))
    return chosen


@contextlib.contextmanager
def placed(experiment: Experiment, *path: str) -> Iterator[None]:
    """Errors from within that know no place get the config's."""
    try:
        yield
    except EngineError as error:
        error.place = error.place or experiment.place(*path)
        raise


def _require_parts(method: Any, source: Any, experiment: Experiment) -> None:
    """Raise an EngineError for a set that the method uses and the source has not, and for a missing model of it."""
    for part in method.uses:
        if not source.parts[part]:
            raise ConfigError(
                f"method '{experiment.method.kind}' as set here uses rows to {part}, and there are none",
                place=experiment.place("source", part),
                next_step=f"give source.{part}, or choose a variant without it",
            )
    if source.config.retain_model is not None:
        with placed(experiment, "source", "retain_model"):
            require_model(source.config.retain_model)


def _require_columns(rewards: list[Reward], source: Any) -> None:
    """Show every reward an empty completion of one prompt: a column that is not there is met before training."""
    prompts: list[Prompt] = next(iter(source.evaluation().values()), [])[:1]
    probe = [Group(prompt, (), [Rollout((), (), "", "stop")]) for prompt in prompts]
    try:
        score_groups(probe, rewards)
    except DataError:
        raise
    except InputError:  # what a function makes of no text at all says nothing about the config
        return


@dataclass
class Parts:
    """Everything a loop drives."""

    prepared: Prepared
    model: Any
    reference: nn.Module | None
    policy: Policy
    sampler: Sampler
