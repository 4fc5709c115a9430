"""What runs inside vLLM's worker processes: full weights from a file, and the cure of the tied head.

Named to vLLM by `--worker-extension-cls`; importing it also registers the weight-transfer backend `file`
(`--weight-transfer-config '{"backend": "file"}'`), so that files take vLLM's official endpoints.

The tied head: on a CPU vLLM packs the weights of a linear layer once. After a reload the packed head still holds
the old embedding, and nothing says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

BACKEND = "file"


class EngineExtension:
    """Methods that `collective_rpc` can call on every worker. Their names must not be those of vLLM's own."""

    model_runner: Any

    def engine_weight_faults(self, expected: dict[str, list[int]]) -> list[str]:
        """What of these checkpoint weights (name -> shape) the served model cannot take; touches nothing."""
        return weight_faults(self.model_runner.model_config.hf_config, expected)

    def engine_tie_head(self) -> list[str]:
        """After weights came another way than through load_file."""
        tie_head(self.model_runner.get_model(), self.model_runner.model_config)
        return []


@dataclass
class FileInit(WeightTransferInitInfo):  # type: ignore[misc]
    """Nothing is to be agreed on beforehand."""


@dataclass
class FileUpdate(WeightTransferUpdateInfo):  # type: ignore[misc]
    """One update: a safetensors file with all weights under the checkpoint's names."""

    path: str


class FileEngine(WeightTransferEngine[FileInit, FileUpdate]):  # type: ignore[misc]
    """Weights from a file on a path that trainer and server share."""

    init_info_cls = FileInit
    update_info_cls = FileUpdate

    def init_transfer_engine(self, init_info: FileInit) -> None:
        return

    def start_weight_update(self) -> None:
        return

    def receive_weights(self, update_info: FileUpdate) -> None:
        load_file(self.model, self.model_config, update_info.path)

    def finish_weight_update(self) -> None:
        return

    def shutdown(self) -> None:
        return


def weight_faults(config: Any, expected: dict[str, list[int]]) -> list[str]:
    """A line for every weight that is missing, unknown or of another shape; empty where all fit."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    known = {name: list(weight.shape) for name, weight in model.named_parameters()}
    faults = [f"{name}: unknown to the served model" for name in expected if name not in known]
    faults += [f"{name}: not sent" for name in known if name not in expected]
    faults += [
        f"{name}: shape {expected[name]}, the served model's is {shape}"
        for name, shape in known.items()
        if name in expected and list(expected[name]) != shape
    ]
    return faults


def load_file(model: Any, config: Any, path: str) -> None:
    """Load all weights of a safetensors file into vLLM's model. The file is opened before anything is touched."""
    with safe_open(path, framework="pt") as file:
        load_weights(model, config, ((name, file.get_tensor(name)) for name in file.keys()))  # noqa: SIM118


def load_weights(model: Any, config: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Load all weights, by their checkpoint names, into vLLM's model in the form that its kernels use."""
    initialize_layerwise_reload(model)
    model.load_weights(iter(weights))
    finalize_layerwise_reload(model, config)
    tie_head(model, config)


def tie_head(model: Any, config: Any) -> None:
    """Point a tied head at the embedding and have it packed anew."""
    if not getattr(config.hf_config.get_text_config(), "tie_word_embeddings", False):
        return
    modules = list(model.modules())
    heads = [m for m in modules if isinstance(m, ParallelLMHead)]
    embeddings = [m for m in modules if isinstance(m, VocabParallelEmbedding) and not isinstance(m, ParallelLMHead)]
    if len(heads) == 1 and len(embeddings) == 1:
        heads[0].weight = embeddings[0].weight
        heads[0].quant_method.process_weights_after_loading(heads[0])


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, FileEngine)
