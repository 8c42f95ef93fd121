"""Step 4. What is asked about CUDA without using it."""

import os

import torch


def is_touched() -> bool:
    """Whether this process has CUDA state that a fork would inherit broken.

    Only a fork can tell: counting devices leaves such state behind and says so in no other way.
    """
    if not (torch.version.cuda or torch.version.hip):
        return False
    pid = os.fork()
    if pid == 0:
        os._exit(torch.cuda._is_in_bad_fork())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def device_count() -> int:
    """How many GPUs torch sees."""
    return torch.cuda.device_count()
