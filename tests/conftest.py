"""What holds for all tests: examples without a clock, and GPU tests only where there is a GPU."""

import os
import shutil

import pytest
from hypothesis import settings

# A deadline would fail tests on a busy machine; the same examples each time keep a failure reproducible.
settings.register_profile("engine", deadline=None, derandomize=True)
settings.load_profile("engine")

# Tests load models by path or from the cache; a hub would only be a slow way to fail.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("nvidia-smi"):
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
