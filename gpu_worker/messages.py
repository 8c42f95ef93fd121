"""What parent and ranks say to each other.  Read this, know the whole conversation.

JSON over a socket pair, one message a frame (pipe.py): nothing on it is pickled, so nothing that a
job sends can become code.

    parent                                    rank
      Start                            ─────▶
                                       ◀─────  StorePort          rank 0 only
      Rendezvous                       ─────▶                     the others
                                       ◀─────  Ready | Failed     setup() is done
      Call                             ─────▶
                                       ◀─────  Heartbeat*         about once a second
                                       ◀─────  CancelSeen         rank 0's publisher was told
      Cancel                           ─────▶
      Settle                           ─────▶                     rank 0, if it hangs beside one that failed
                                       ◀─────  Settled
                                       ◀─────  Done | Failed
      Shutdown, or EOF                 ─────▶  teardown(), exit

    parent                                    a child that describes the tasks
      Describe                         ─────▶
                                       ◀─────  Described, exit
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages; subclasses are found by name."""

    registry: ClassVar[dict[str, type["Message"]]] = {}

    def __init_subclass__(cls) -> None:
        Message.registry[cls.__name__] = cls


# To a rank


@dataclass(frozen=True, slots=True)
class Start(Message):
    """Load the task, join the group, run `setup`.

    `device` is a CUDA device index, None on the CPU; `threads` is what torch may use on the CPU.
    `settings` are the fields of tasks.settings.Settings, for rank 0's publisher.
    """

    task: str
    spec: str
    rank: int
    world_size: int
    device: int | None
    backend: str
    threads: int
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendezvous(Message):
    """Rank 0's store listens here."""

    port: int


@dataclass(frozen=True, slots=True)
class Call(Message):
    """Run the task once. `input` is JSON text; fence and token are what rank 0's publisher must show.

    `checkpoints` is the deployment's folder for them. `resumes_from` is the data of the job's
    newest `checkpoint` event, where there is one and its file is here; `notice` says why there is not.
    `files` are the fields of files.FileRules.
    """

    job_id: str
    fence: int
    token: str
    attempt: int
    input: str
    checkpoints: str
    resumes_from: dict[str, Any] | None = None
    notice: str | None = None
    files: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """Somebody asked to cancel this job; a message for a job that is over says nothing."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Settle(Message):
    """Say when the log has all that this call has told until now."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Shutdown(Message):
    """Run `teardown` and exit."""


# From a rank


@dataclass(frozen=True, slots=True)
class StorePort(Message):
    """Rank 0's TCPStore listens here (port 0 was asked for: the kernel chose)."""

    port: int


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """The group is initialised and `setup` returned. `is_preloaded`: the task's module came with the fork."""

    pid: int
    is_preloaded: bool


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """The interpreter of this rank still runs; its call has shown no progress for `quiet_s`."""

    quiet_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CancelSeen(Message):
    """The reply to an append carried the job's cancel flag."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Settled(Message):
    """The answer to Settle; also where the log takes nothing of that call any more."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Done(Message):
    """`__call__` returned. From rank 0: the output as JSON text, the last event number in the log, and
    when it got where, as in moments.py.

    `collectives` as in Failed.
    """

    output: str | None = None
    final_seq: int = 0
    collectives: int | None = None
    marks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """This rank raised, and waits for the next call again. `final_seq` and `marks` as in Done.

    `kind` is one of JobErrorInfo's; `exitcode` is what `sys.exit` was given. `is_secondary`: the
    error says that a peer went away, so the cause is elsewhere. `collectives` is how many
    collectives this rank has entered since the group began; None where that cannot be known, or
    the rank cannot be used again.
    """

    kind: str
    type: str
    message: str
    traceback: str
    exitcode: int | None = None
    is_secondary: bool = False
    collectives: int | None = None
    final_seq: int = 0
    marks: dict[str, int] = field(default_factory=dict)


# To and from a child that describes


@dataclass(frozen=True, slots=True)
class Describe(Message):
    """Which tasks are in these files and modules?"""

    specs: list[str]
    counts_devices: bool


@dataclass(frozen=True, slots=True)
class Described(Message):
    """`tasks`: fields of forkserver.TaskDescription; `faults`: of load.NotLoadable.

    `unforkable`: spec -> why the forkserver cannot fork what its import left behind.
    """

    tasks: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    unforkable: dict[str, str]
    device_count: int


def encode(message: Message) -> bytes:
    """The frame of a message."""
    return orjson.dumps([type(message).__name__, message])


def decode(frame: bytes) -> Message:
    """The message in a frame; ValueError, KeyError or TypeError if it is none."""
    name, fields = orjson.loads(frame)
    return Message.registry[name](**fields)
