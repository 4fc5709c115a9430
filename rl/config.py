"""The configuration of a training run: strict sections, and the plug-ins' own sections in two steps.

First the file's shape is validated, then `method:` and `source:` by the Config of the plug-in that
their `kind` names, so that every fault has its place in the file.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from engine.config import Config, Source, apply_override, read_source, validate
from engine.errors import ConfigError
from rl.methods import METHODS
from rl.policies._vllm.settings import VllmConfig
from rl.sources import SOURCES
from rl.types import Structure

PLUGIN_SECTIONS = {"method": METHODS, "source": SOURCES}


class LoraConfig(Config):
    """Low-rank adapters beside frozen weights; `targets` as in peft ("all-linear" or module names)."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"


class QuantizeConfig(Config):
    """Linear layers in `bits` a weight, with a scale for each `group` weights of a row: scales alone are trained."""

    bits: Literal[4, 8] = 4
    group: int = Field(default=64, ge=2, multiple_of=2)


class ModelConfig(Config):
    """Which model, in which precision; `lora` none trains all weights. `quantize`: see QuantizeConfig; for qzo.

    `name`: a known one, a folder, a hub id, or "path/to/file.py:function", which returns the folder of one.
    `autocast: bfloat16` computes with the weights rounded to bfloat16: of an update smaller than such a step (0.4 to
    0.8 % of a weight) it sees only the weights that it carries over the middle between two values.
    """

    name: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: Literal["bfloat16", "none"] = "bfloat16"
    lora: LoraConfig | None = None
    quantize: QuantizeConfig | None = None
    gradient_checkpointing: bool = False


class StructureConfig(Config):
    """The form that completions must have; one of these. `grammar` is EBNF."""

    regex: str | None = None
    choice: tuple[str, ...] | None = None
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("give one of regex, choice, json_schema and grammar")
        return self

    def structure(self) -> Structure:
        """As requests have it."""
        if self.json_schema is not None:
            return Structure("json", json.dumps(self.json_schema))
        if self.choice is not None:
            return Structure("choice", self.choice)
        return Structure("regex", self.regex) if self.regex is not None else Structure("grammar", self.grammar or "")


class PolicyConfig(Config):
    """Who samples, and how. `completions` is G, the completions a prompt.

    `structure`: a form that completions are held to. Their log-probs are then of what the form leaves, the trainer's
    of the whole distribution; the method's sampler correction weighs each completion by what lies between.

    `max_staleness`: how many batches may be sampled ahead of the updates, so that sampling on servers and training
    overlap; 0 samples every batch with the newest weights.
    """

    engine: Literal["auto", "local", "vllm"] = "auto"
    completions: int = Field(default=8, ge=2)
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, lt=1)
    stop: tuple[str, ...] = ()
    structure: StructureConfig | None = None
    max_staleness: int = Field(default=0, ge=0)
    vllm: VllmConfig = VllmConfig()


class TrainerConfig(Config):
    """The loop. One step is one optimizer update.

    A batch of `prompts` x completions rollouts serves `minibatches` x `iterations` steps.
    `micro_batch_tokens` bounds the tokens of one forward pass (a single group may exceed it).
    `control: shuffled_rewards` permutes the rewards within each group: what is learnt then is luck.
    """

    steps: int = Field(default=100, ge=1)
    prompts: int = Field(default=8, ge=1)
    iterations: int = Field(default=1, ge=1)
    minibatches: int = Field(default=1, ge=1)
    micro_batch_tokens: int = Field(default=4096, ge=1)
    lr: float = Field(default=1e-6, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = Field(default=1e-8, gt=0)
    clip_grad_norm: float = Field(default=1.0, gt=0)
    save_every: int = Field(default=10, ge=1)
    keep: int = Field(default=2, ge=1)
    eval_every: int = Field(default=10, ge=0)
    samples: int = Field(default=4, ge=0)
    control: Literal["none", "shuffled_rewards"] = "none"


class RunConfig(Config):
    """A whole config file. `method` and `source` are checked by their plug-ins in the second step."""

    seed: int = 0
    model: ModelConfig
    method: dict[str, Any]
    source: dict[str, Any]
    rewards: list[str | dict[str, Any]] = []
    policy: PolicyConfig = PolicyConfig()
    trainer: TrainerConfig = TrainerConfig()
    run_dir: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A validated config: its sections, those of the plug-ins, and where each value stands.

    `near`: the folder beside which relative paths in it are looked up first.
    """

    config: RunConfig
    method_class: Any
    method: Any
    source_class: Any
    source: Any
    origin: Source
    near: Path | None = None

    def resolved(self) -> dict[str, Any]:
        """The whole configuration with every default filled in, as plain data."""
        data = self.config.model_dump(mode="json", exclude={"run_dir"})
        return data | {"method": self.method.model_dump(mode="json"), "source": self.source.model_dump(mode="json")}

    @property
    def measures_samples(self) -> bool:
        """Whether an evaluation has nothing but the rewards of completions to tell, as answers are not given."""
        return (
            self.method_class.trainer not in ("offline", "diffusion")
            and getattr(self.method, "objective", "reward") != "loss"
        )

    @property
    def has_soft_prompt(self) -> bool:
        """Whether vectors before every prompt are what is trained."""
        space = getattr(self.method, "space", None)
        return space is not None and space.of == "soft_prompt"

    def place(self, *path: str | int) -> str:
        """Where the value at that path was set."""
        return self.origin.place(path)


def load(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, near: Path | None = None
) -> Experiment:
    """The experiment that a file (or the same as a mapping) and 'a.b=value' overrides describe.

    Raises ConfigError with file:line:column and UnknownName for a method or source that is not there.
    """
    origin = _origin(config, overrides)
    folder = near if isinstance(config, Mapping) else Path(config).absolute().parent
    sections = validate(RunConfig, origin)
    if sections.trainer.prompts % sections.trainer.minibatches:
        raise ConfigError(
            f"{sections.trainer.prompts} prompts cannot be cut into {sections.trainer.minibatches} equal minibatches",
            place=origin.place(("trainer", "minibatches")),
            allowed="a divisor of trainer.prompts",
        )
    classes = {name: _plugin(origin, name) for name in PLUGIN_SECTIONS}
    _check_source(classes["method"], classes["source"], sections, origin)
    if classes["method"].trainer in WITHOUT_ROLLOUTS:
        _check_without_rollouts(sections, origin, WITHOUT_ROLLOUTS[classes["method"].trainer])
    parts = {name: validate(cls.Config, origin, (name,)) for name, cls in classes.items()}
    if classes["method"].needs_rewards(parts["method"]) and not sections.rewards:
        raise ConfigError(
            f"method '{sections.method['kind']}' learns from rewards, and none is named",
            place=origin.place(("rewards",)),
            allowed="a list of names, as [first_line_equals]; `engine rl list` shows them",
        )
    if classes["method"].trainer == "zeroth_order":
        _check_zeroth_order(sections, parts["method"], origin)
        if classes["method"].moves_values:
            _check_constant_rate(sections, origin)
    _check_quantized(sections, classes["method"], origin)
    return Experiment(
        sections, classes["method"], parts["method"], classes["source"], parts["source"], origin, near or folder
    )


def _check_source(method: Any, source: Any, sections: RunConfig, origin: Source) -> None:
    """Raise ConfigError for a source that does not give what the method's loop takes."""
    if method.trainer not in source.trainers:
        fitting = [name for name in SOURCES.names() if method.trainer in SOURCES.load(name).trainers]
        raise ConfigError(
            f"source '{sections.source['kind']}' is for the loop {' or '.join(source.trainers)}, "
            f"and method '{sections.method['kind']}' is trained by the loop {method.trainer}",
            place=origin.place(("source", "kind")),
            allowed=", ".join(fitting),
        )


WITHOUT_ROLLOUTS = {"offline": frozenset({"max_tokens", "stop"}), "diffusion": frozenset[str]()}
"""The loops without rollouts, and what of the policy section means something there: offline, measuring answers."""


def _check_without_rollouts(sections: RunConfig, origin: Source, policy: frozenset[str]) -> None:
    """Raise ConfigError for a setting of rollouts where there are none."""
    faults: list[tuple[str, ...]] = [("rewards",)] if sections.rewards else []
    faults += [
        ("policy", key) for key, value in sections.policy if key not in policy and _is_set(PolicyConfig(), key, value)
    ]
    shared = ("iterations", "minibatches", "control")
    faults += [("trainer", key) for key in shared if _is_set(TrainerConfig(), key, getattr(sections.trainer, key))]
    if faults:
        raise ConfigError(
            f"method '{sections.method['kind']}' learns without rollouts, "
            f"and {', '.join('.'.join(fault) for fault in faults)} means nothing there",
            place=origin.place(faults[0]),
            allowed=f"of the policy section {', '.join(sorted(policy)) or 'nothing'}",
            next_step="take it out",
        )


def _check_quantized(sections: RunConfig, method: Any, origin: Source) -> None:
    """Raise ConfigError for a quantized model and a method that does not move its scales, or the other way round."""
    if method.is_quantized != (sections.model.quantize is not None):
        kind = sections.method["kind"]
        is_lacking = sections.model.quantize is None
        raise ConfigError(
            f"method '{kind}' "
            + ("moves the scales of a quantized model, and this one is not" if is_lacking else "trains weights"),
            place=origin.place(("model", "quantize")),
            allowed="{bits: 4, group: 64}, for example" if is_lacking else "null, or method.kind=qzo",
        )
    if sections.model.quantize is not None and sections.model.lora is not None:
        raise ConfigError(
            "of a quantized model the scales are trained, not adapters",
            place=origin.place(("model", "lora")),
            allowed="null",
        )


def is_live(method: Any, model: ModelConfig) -> bool:
    """Whether the zeroth-order loop moves the model's own weights, rather than a copy that they follow from."""
    is_whole = method.space.dims is None and method.space.of == "weights"
    return bool(is_whole and method.objective == "loss" and model.lora is None and model.dtype == "float32")


GRADIENT_SETTINGS = ("iterations", "minibatches", "weight_decay", "betas", "adam_eps", "clip_grad_norm", "control")


def _check_zeroth_order(sections: RunConfig, method: Any, origin: Source) -> None:
    """Raise ConfigError for a setting that the loop of forward passes has not."""
    default = TrainerConfig()
    for key in GRADIENT_SETTINGS:
        if getattr(sections.trainer, key) != getattr(default, key):
            raise ConfigError(
                f"method '{method.kind}' moves by forward passes alone, and trainer.{key} means nothing there",
                place=origin.place(("trainer", key)),
                next_step="take it out",
            )
    for key, words in {"lora": "adapters", "quantize": "a quantized model's scales"}.items():
        if method.space.of == "soft_prompt" and getattr(sections.model, key) is not None:
            raise ConfigError(
                f"of a soft prompt its vectors are trained, and {words} as well were asked for",
                place=origin.place(("model", key)),
                allowed="null, or method.space.of=weights",
            )
    if method.offload and not is_live(method, sections.model):
        raise ConfigError(
            "weights are brought to the accelerator a block at a time where all of them are moved, by a loss alone",
            place=origin.place(("method", "offload")),
            allowed="false, or model.lora=null, model.dtype=float32, method.space.dims=null and method.objective=loss",
        )


def _check_constant_rate(sections: RunConfig, origin: Source) -> None:
    """Raise ConfigError for learning rates that change, where a run is replayed at one."""
    for key in ("schedule", "warmup_steps"):
        if getattr(sections.trainer, key) != getattr(TrainerConfig(), key):
            raise ConfigError(
                f"method '{sections.method['kind']}' finds the length of a step by its line search, "
                f"and trainer.{key} means nothing there",
                place=origin.place(("trainer", key)),
                next_step="take it out",
            )


def _is_set(default: Config, key: str, value: Any) -> bool:
    is_local = key == "engine" and value == "local"
    return not is_local and value != getattr(default, key)


def _origin(config: str | Path | Mapping[str, Any], overrides: Sequence[str]) -> Source:
    if not isinstance(config, Mapping):
        return read_source(config, overrides)
    origin = Source("config", copy.deepcopy(dict(config)))
    for override in overrides:
        apply_override(origin, override)
    return origin


def _plugin(origin: Source, section: str) -> Any:
    """The plug-in class that the section's `kind` names."""
    registry = PLUGIN_SECTIONS[section]
    kind, mode = origin.data[section].get("kind"), origin.data[section].get("mode")
    if not isinstance(kind, str):
        raise ConfigError(
            f"the key 'kind' is missing or no name: {kind!r}",
            place=origin.place((section, "kind")),
            allowed=", ".join(registry.names()),
        )
    found = registry.load(kind, place=origin.place((section, "kind")))
    return getattr(found, "modes", {}).get(mode, found) if isinstance(mode, str) else found
