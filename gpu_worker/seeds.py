"""Step 6. Random numbers that differ from rank to rank and from start to start.

Forks of one server would all draw the same ones, where fresh processes draw their own: every image
of every group would come from the same noise. Python's `random` sees to it by itself; torch and
numpy are seeded anew, except where users' code has seeded them at import and means it.
"""

import numpy as np
import torch

#: Of torch and numpy, before users' code was imported; None where nothing was forked.
_untouched: tuple[int, bytes] | None = None


def remember() -> None:
    """Note the state before users' code is imported. For the forkserver."""
    global _untouched
    _untouched = _seeds()


def draw_apart() -> None:
    """Seed anew what nobody has seeded. For a rank, before any code of its own."""
    if _untouched is None:
        # A fresh interpreter drew its own seeds.
        return
    torch_was, numpy_was = _untouched
    torch_is, numpy_is = _seeds()
    if torch_is == torch_was:
        torch.seed()
    if numpy_is == numpy_was:
        np.random.seed()


def _seeds() -> tuple[int, bytes]:
    """What seeding changes. Drawing from numpy does so too, and is taken for seeding."""
    return torch.initial_seed(), np.random.get_state(legacy=False)["state"]["key"].tobytes()
