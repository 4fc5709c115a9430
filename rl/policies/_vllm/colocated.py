"""vLLM in the trainer's own process, on the trainer's GPU: it sleeps while the trainer computes.

On a CPU vLLM does not sleep (it says so and goes on), and everything else is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from engine.errors import EnvironmentMissing
from rl.policies._vllm.launch import EXTENSION, is_cpu_build
from rl.policies._vllm.payload import error_rollouts, fault_of, rollouts_from, sampling_of, structure_of
from rl.policies._vllm.probe import TOP, Difference, beginnings, difference, probe_ids, trainer_scores
from rl.policies._vllm.served import Trainer
from rl.policies._vllm.settings import VllmConfig
from rl.policies._vllm.weights import named_weights, weight_shapes
from rl.policies._vllm.worker import load_weights, weight_faults
from rl.types import Request, Rollout


class Colocated:
    """An in-process engine. `differences`: what the last probe found, under "colocated"."""

    def __init__(
        self, model_path: str, settings: VllmConfig, trainer: Trainer, *, dtype: str, say: Callable[[str], None]
    ) -> None:
        # The engine in this very process, so that it takes the trainer's tensors as they are.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM

        self.settings, self.trainer, self.dtype = settings, trainer, getattr(torch, dtype)
        self.can_sleep = not is_cpu_build()
        self.differences: dict[str, Difference] = {}
        random_state = torch.get_rng_state()
        self.llm = LLM(
            model=model_path,
            dtype=dtype,
            max_model_len=settings.context,
            gpu_memory_utilization=settings.memory_share or 0.3,
            tensor_parallel_size=settings.tensor_parallel,
            logprobs_mode="processed_logprobs",
            generation_config="vllm",
            worker_extension_cls=EXTENSION,
            enable_sleep_mode=self.can_sleep,
            enforce_eager=is_cpu_build(),
            enable_chunked_prefill=not is_cpu_build(),  # as in launch.server_command
            seed=0,
            disable_log_stats=True,
        )
        torch.set_rng_state(random_state)
        self.context = int(self.llm.llm_engine.model_config.max_model_len)
        self.ids = probe_ids(trainer.tokenizer, trainer.vocabulary, self.context)
        note = "asleep while the trainer computes" if self.can_sleep else "which cannot sleep on a CPU"
        say(f"vLLM in this process: {dtype}, {note}")
        self._sleep()

    def generate(self, requests: Sequence[Request], version: int) -> list[list[Rollout]]:
        """The rollouts of each request; see Policy."""
        faults = [fault_of(request, self.context) for request in requests]
        sound = [request for request, fault in zip(requests, faults, strict=True) if not fault]
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in sound]
        params = [self._params(request) for request in sound]
        self._wake()
        outputs = iter(self.llm.generate(prompts, params, use_tqdm=False) if sound else [])
        self._sleep()
        return [
            error_rollouts(request, fault, version)
            if fault
            else rollouts_from(_rows(next(outputs)), request, self.trainer.tokenizer, version)
            for request, fault in zip(requests, faults, strict=True)
        ]

    def _params(self, request: Request) -> Any:
        """vLLM's sampling parameters."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        given = StructuredOutputsParams(**structure_of(request.structure)) if request.structure else None
        return SamplingParams(**sampling_of(request, self.context, self.trainer.end_ids), structured_outputs=given)

    def sync(self, model: Any, version: int) -> None:
        """Load the model's weights, forget the prefixes' keys and values, and prove it."""
        scores = trainer_scores(model, self.ids, self.trainer.autocast)
        self._wake()
        served, config = self._served()
        if faults := weight_faults(config.hf_config, weight_shapes(model)):
            raise EnvironmentMissing(f"the colocated engine serves another model: {'; '.join(faults[:3])}")
        load_weights(served, config, named_weights(model, self.dtype))
        self.llm.reset_prefix_cache()
        found = self._difference(scores)
        self._sleep()
        self.differences["colocated"] = found
        found.require(self.trainer.tolerance, "colocated")

    def close(self) -> None:
        """Free the engine."""
        self.llm.llm_engine.engine_core.shutdown()

    def _served(self) -> tuple[Any, Any]:
        """vLLM's model and its config."""
        executor = self.llm.llm_engine.engine_core.engine_core.model_executor
        runner = executor.driver_worker.worker.model_runner
        return runner.get_model(), runner.model_config

    def _difference(self, scores: Any) -> Difference:
        from vllm import SamplingParams

        asked = SamplingParams(max_tokens=1, temperature=1.0, seed=0, logprobs=TOP)
        prompts = [{"prompt_token_ids": ids} for ids in beginnings(self.ids)]
        outputs = self.llm.generate(prompts, asked, use_tqdm=False)
        cached = [{i: entry.logprob for i, entry in o.outputs[0].logprobs[0].items()} for o in outputs]
        asked = SamplingParams(max_tokens=1, prompt_logprobs=0)
        output = self.llm.generate([{"prompt_token_ids": list(self.ids)}], asked, use_tqdm=False)[0]
        rows = output.prompt_logprobs[1:]
        own = [row[token].logprob for row, token in zip(rows, self.ids[1:], strict=True)]
        return difference(scores, own, cached)

    def _wake(self) -> None:
        if self.can_sleep and self.llm.llm_engine.is_sleeping():
            self.llm.wake_up()

    def _sleep(self) -> None:
        """Level 1: the weights go to host memory, the cache is dropped."""
        if self.can_sleep:
            self.llm.sleep(level=1)


def _rows(output: Any) -> list[tuple[list[int], list[float], str]]:
    """(token ids, log-probs, finish reason) of the n completions."""
    return [
        (
            list(o.token_ids),
            [entry[token].logprob for entry, token in zip(o.logprobs, o.token_ids, strict=False)],
            o.finish_reason,
        )
        for o in sorted(output.outputs, key=lambda o: o.index)
    ]
