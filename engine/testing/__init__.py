"""Tests of programs that use language models: an endpoint on this machine with a skill, a latency and faults."""

from engine.testing.draft import Draft
from engine.testing.faults import FAULTS, Fault
from engine.testing.server import Call, Server, Skill
from engine.testing.skills import Proposer, echo, random_values

__all__ = ["FAULTS", "Call", "Draft", "Fault", "Proposer", "Server", "Skill", "echo", "random_values"]
