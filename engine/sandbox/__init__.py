"""Runs Python that a model wrote, so that it cannot harm the machine, forge a result or disturb the next run.

    from engine.sandbox import shared
    outcome = shared().call("def double(x): return 2 * x", "double", (21,))
    outcome.value  # 42

docs/sandbox.md says what is promised and what is not.
"""

from engine.sandbox.compare import same
from engine.sandbox.guard import check_nesting, imported_modules
from engine.sandbox.outcome import Fault, Outcome
from engine.sandbox.sandbox import Sandbox, Twice, shared
from engine.sandbox.tiers import TIERS

__all__ = ["TIERS", "Fault", "Outcome", "Sandbox", "Twice", "check_nesting", "imported_modules", "same", "shared"]
