"""OpenEvolve 0.4.1: `run_evolution` with its defaults, feedback as artifacts.

One answer and one evaluation on all training examples an iteration, so the number of iterations is what the
smaller of both budgets pays for. Code and settings are Python that it edits by SEARCH/REPLACE, its default;
an instruction is a text that it rewrites in full, as in its example on prompts. The three worst judgements are its
artifact `feedback`.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path

from openevolve import run_evolution
from openevolve.config import Config, LLMModelConfig

from peers.job import Job, mean
from peers.task import Values

EVALUATOR = """
import sys
sys.path.append({folder!r})
from peers.openevolve_peer import evaluated
def evaluate(path):
    return evaluated(path)
"""
_JOBS: dict[str, Job] = {}


def optimize(job: Job) -> Values:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        line = {"task": os.environ["PEER_TASK"], "seed": job.seed, "url": "", "runs": 10**9, "calls": 0}
        os.environ["PEER_JOB"] = json.dumps(line)
        os.environ["PEER_LOG"] = str(Path(folder, "runs"))
        evaluator = Path(folder, "evaluator.py")
        evaluator.write_text(EVALUATOR.format(folder=str(Path(__file__).parent.parent)))
        iterations = min(job.calls, job.runs // len(job.task.train) - 1)
        result = run_evolution(
            job.task.to_text(job.task.start), str(evaluator), _config(job), iterations, output_dir=folder, cleanup=False
        )
        job.used_runs = len(job.task.train) * len(Path(folder, "runs").read_text())
        job.used_calls = iterations
    return job.task.from_text(_cleaned(result.best_code))


def evaluated(path: str) -> object:
    """What OpenEvolve's evaluator gives for a program file."""
    from openevolve.evaluation_result import EvaluationResult

    line = os.environ["PEER_JOB"]
    job = _JOBS.setdefault(line, Job.of(json.loads(line)))
    judged = job.evaluate(_cleaned(Path(path).read_text()))
    with Path(os.environ["PEER_LOG"]).open("a") as log:
        log.write("x")
    worst = sorted(zip(judged, job.task.train, strict=True), key=lambda pair: pair[0][0])[:3]
    told = "\n".join(f"input: {example!r}; score {score:g}. {text}" for (score, text), example in worst if text)
    return EvaluationResult({"combined_score": mean(judged)}, {"feedback": told} if told else {})


def _config(job: Job) -> Config:
    config = Config(random_seed=job.seed)
    config.database.random_seed = job.seed
    config.llm.models = [LLMModelConfig(name="proposer")]
    config.llm.evaluator_models = list(config.llm.models)
    config.llm.update_model_params({**_request(job)}, overwrite=True)
    if job.task.specs[0].kind == "text":
        config.diff_based_evolution, config.language, config.file_suffix = False, "text", ".txt"
    return config


def _request(job: Job) -> dict[str, object]:
    """How the model is asked: the defaults of its configuration, at our address."""
    return {
        "api_base": job.url,
        "api_key": "none",
        "temperature": 0.7,
        "max_tokens": 4096,
        "timeout": 600,
        "retries": 0,
        "retry_delay": 0,
    }


def _cleaned(text: str) -> str:
    """The program without the marks of the block that evolves."""
    return "\n".join(line for line in text.splitlines() if "EVOLVE-BLOCK" not in line).strip()
