"""Retries that do not wait long, and optimizers with options for short runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OPTIONS: dict[str, dict[str, Any]] = {
    "optoprime": {"candidates": 2, "examples": 1},
    "opro": {"candidates": 3, "explore": 3},
    "pareto": {"of": {"kind": "optoprime", "candidates": 2, "examples": 1}},
    "evolve": {"candidates": 1, "migrate_every": 2},
    "instinct": {"of": {"kind": "opro", "candidates": 2, "explore": 2}, "pool": 2, "warmup": 2, "training_steps": 10},
}


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.005)
    monkeypatch.setattr("engine.llm.openai.PAUSE_S", 0.005)


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model, whose hidden states `instinct` reads."""
    from tests.engine.llm import byte_llama  # loads torch

    return f"local:{byte_llama.saved(tmp_path_factory.mktemp('embedder'), positions=512)}"


@pytest.fixture
def spec(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """The optimizer of a name with its options."""

    def made(name: str) -> dict[str, Any]:
        options = OPTIONS.get(name, {"candidates": 3})
        if name == "instinct":
            options = {**options, "embedder": request.getfixturevalue("embedder")}
        return {"kind": name, **options}

    return made
