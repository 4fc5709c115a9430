"""Forks a training process for each line of its input, kills it where asked, and says how it ended.

Imports cost seconds and training the tiny model milliseconds, so one process imports and forks the
others; it computes nothing itself, since a fork must not inherit a pool of threads.

Input, a JSON object a line: config, run_dir, resume, kill_at. An event is a flush to the disk, a rename,
a removed folder, an optimizer step or a written row; with kill_at n the n-th of them is SIGKILL's.
Output: {"exit": code, or minus the signal; "events": how many there were}.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing import Value
from pathlib import Path
from typing import Any

import torch

from engine.runs import RunFolder
from rl.run import train

EVENTS = Value("i", 0)


def counted(function: Callable[..., Any], kill_at: int | None) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        EVENTS.value += 1
        if EVENTS.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return wrapper


def child(order: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    kill_at = order["kill_at"]
    for owner, name in ((os, "fsync"), (Path, "rename"), (shutil, "rmtree"), (RunFolder, "log"), (RunFolder, "sample")):
        setattr(owner, name, counted(getattr(owner, name), kill_at))
    torch.optim.AdamW.step = counted(torch.optim.AdamW.step, kill_at)  # type: ignore[method-assign]
    train(order["config"], resume=order["resume"], run_dir=order["run_dir"], is_quiet=True)


def main() -> None:
    for line in sys.stdin:
        EVENTS.value = 0
        if json.loads(line)["config"]["method"]["kind"] == "self_npo":
            importlib.import_module("rl.trainers.diffusion")  # here, since it takes seconds
        pid = os.fork()
        if pid == 0:
            try:
                child(json.loads(line))
                os._exit(0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(getattr(error, "exit_code", 1))
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status), "events": EVENTS.value}), flush=True)


if __name__ == "__main__":
    main()
