"""Step 4. Tells a worker what its tasks are, from a child of the forkserver.

The worker itself imports neither torch nor users' code, so it asks: one child, one question, one
answer. The child is also where GPUs are counted: counting may initialise CUDA, which no fork
survives, and this process is not forked again.
"""

import socket
from typing import Any

from rankcast.gpu_worker.cuda import device_count
from rankcast.gpu_worker.load import NotLoadable, TaskClass, load, place
from rankcast.gpu_worker.messages import Describe, Described
from rankcast.gpu_worker.pipe import BlockingEnd

#: Spec -> why its tasks cannot run in a fork of the forkserver, which writes it before it forks.
unforkable: dict[str, str] = {}


def main(fds: tuple[int, ...]) -> int:
    """Answer the question that comes over the pipe. Exit code 0, or 1 when the worker is gone."""
    pipe = BlockingEnd(socket.socket(fileno=fds[0]))
    question = pipe.receive()
    if not isinstance(question, Describe):
        return 1
    pipe.send(_answer(question))
    return 0


def _answer(question: Describe) -> Described:
    tasks: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    for spec in question.specs:
        try:
            tasks += [_described(spec, task) for task in load(spec)]
        except NotLoadable as error:
            faults.append(
                {
                    "spec": spec,
                    "message": error.message,
                    "file": error.file,
                    "line": error.line,
                    "traceback": error.traceback,
                }
            )
    return Described(
        tasks=tasks,
        faults=faults,
        unforkable=unforkable,
        device_count=device_count() if question.counts_devices else 0,
    )


def _described(spec: str, task: TaskClass) -> dict[str, Any]:
    declaration = task.declaration
    return {
        "name": declaration.name,
        "spec": spec,
        "place": place(task.cls),
        "world_size": declaration.world_size,
        "timeout_s": declaration.timeout_s,
        "total_timeout_s": declaration.total_timeout_s,
        "stall_s": declaration.stall_s,
        "silence_s": declaration.silence_s,
        "setup_timeout_s": declaration.setup_timeout_s,
        "cancel_grace_s": declaration.cancel_grace_s,
        "retries": declaration.retries,
        "input_schema": task.input_schema,
        "output_schema": task.output_schema,
        "code_version": task.code_version,
        "description": task.description,
        "warnings": list(task.warnings),
    }
