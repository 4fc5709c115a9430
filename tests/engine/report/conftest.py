import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def example_runs():
    """The module example_runs.py beside this file."""
    spec = importlib.util.spec_from_file_location("example_runs", Path(__file__).with_name("example_runs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
