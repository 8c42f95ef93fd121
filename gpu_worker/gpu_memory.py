"""Step 5. Who holds memory of this host's NVIDIA GPUs.

nvidia-smi is asked, in a process of its own: the worker stays free of the driver, and a driver that
hangs takes only the question with it. It tells pids of the host, so that it does not matter how
CUDA_VISIBLE_DEVICES numbers the GPUs; in a container that cannot see the host's pids it tells none.
"""

import contextlib
import logging
import shutil
import subprocess

COMMAND = ("nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader")
TIMEOUT_S = 20.0

logger = logging.getLogger(__name__)


def memory_holders() -> frozenset[int]:
    """The pids of all processes that hold memory of any GPU; none where nobody can be asked."""
    path = shutil.which(COMMAND[0])
    if path is None:
        return frozenset()
    asked = subprocess.Popen(
        [path, *COMMAND[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        told, _ = asked.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _give_up(asked)
        logger.error("nvidia-smi does not answer within %g s", TIMEOUT_S)
        return frozenset()
    if asked.returncode != 0:
        logger.error("nvidia-smi fails: %s", told.decode(errors="replace").strip()[:200])
        return frozenset()
    return frozenset(int(word) for word in told.split() if word.isdigit())


def _give_up(asked: "subprocess.Popen[bytes]") -> None:
    asked.kill()
    if asked.stdout:
        asked.stdout.close()
    # No longer than this: it may hang where no signal reaches it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        asked.wait(1.0)
