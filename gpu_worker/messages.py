"""What parent and ranks say to each other.  Read this, know the whole conversation.

JSON over a `multiprocessing.Connection`, one message a frame: nothing on these pipes is pickled,
so nothing that a job sends can become code.

    parent                                    rank
      Start (through the forkserver)   ─────▶
                                       ◀─────  StorePort          rank 0 only
      Rendezvous                       ─────▶                     the others
                                       ◀─────  Ready | Failed     setup() is done
      Call                             ─────▶
                                       ◀─────  Heartbeat*         about once a second
      Cancel                           ─────▶
                                       ◀─────  Done | Failed
      Shutdown, or EOF                 ─────▶  teardown(), exit
"""

from dataclasses import asdict, dataclass
from typing import ClassVar

import orjson


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages; subclasses are found by name."""

    registry: ClassVar[dict[str, type["Message"]]] = {}

    def __init_subclass__(cls) -> None:
        Message.registry[cls.__name__] = cls


# To a rank


@dataclass(frozen=True, slots=True)
class Rendezvous(Message):
    port: int


@dataclass(frozen=True, slots=True)
class Call(Message):
    """Run the task once. `input` is JSON text; the rest is what rank 0's publisher must show."""

    job_id: str
    fence: int
    token: str
    attempt: int
    input: str


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    job_id: str


@dataclass(frozen=True, slots=True)
class Shutdown(Message):
    pass


# From a rank


@dataclass(frozen=True, slots=True)
class StorePort(Message):
    """Rank 0's TCPStore listens here (port 0 was asked for: the kernel chose)."""

    port: int


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """The group is initialised and `setup` returned. `preloaded`: this task's module came with the fork."""

    pid: int
    preloaded: bool


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """The interpreter of this rank still runs."""


@dataclass(frozen=True, slots=True)
class Done(Message):
    """`__call__` returned. From rank 0: the output as JSON text, and the last event number in the log."""

    output: str | None = None
    final_seq: int = 0


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """This rank raised. `kind` is one of JobErrorInfo's; `final_seq` as in Done."""

    kind: str
    type: str
    message: str
    traceback: str
    final_seq: int = 0


def encode(message: Message) -> bytes:
    return orjson.dumps([type(message).__name__, asdict(message)])


def decode(frame: bytes) -> Message:
    name, fields = orjson.loads(frame)
    return Message.registry[name](**fields)
