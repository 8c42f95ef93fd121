"""Find the tasks in a user's file or module, and the shape of their input.

Runs in the forkserver and in ranks, never in the worker's own process: this is where users' code is
imported. The signature of `__call__`, or a pydantic model named `Input` inside the class, becomes
the task's JSON Schema, and in a rank the same model turns an input's JSON into typed arguments.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydantic
from pydantic.json_schema import PydanticJsonSchemaWarning

from rankcast.gpu_worker.distributed_worker import DistributedWorker
from rankcast.tasks import declare
from rankcast.tasks.declare import TaskDeclaration, declaration_of, is_file
from rankcast.tasks.errors import Fault, InvalidInput, RankcastError

#: An argument that we give, as fal.distributed does; it is no part of the input.
STREAMING = "streaming"


class NotLoadable(RankcastError):
    """Raised when users' code cannot be imported or does not declare tasks that could run.

    `file` and `line` say where, as far as that is known; `traceback` is the user's.
    """

    def __init__(self, spec: str, message: str, *, file: str = "", line: int = 0, trace: str = "") -> None:
        where = f"{file}:{line}: " if file else ""
        super().__init__(f"cannot load the tasks of {spec!r}: {where}{message}")
        self.spec, self.message, self.file, self.line, self.traceback = spec, message, file, line, trace


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClass:
    """A task as this process can run it."""

    declaration: TaskDeclaration
    cls: type[DistributedWorker]
    input_model: type[pydantic.BaseModel]
    #: Field of `input_model` -> argument of `__call__`.
    arguments: Mapping[str, str]
    takes_streaming: bool
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    #: Changes when the file that holds the class changes.
    code_version: str
    description: str
    #: What a reader of the worker's log should know.
    warnings: tuple[str, ...] = ()

    def arguments_of(self, input_json: bytes | str) -> dict[str, Any]:
        """The keyword arguments that an input stands for; InvalidInput with every fault."""
        try:
            model = self.input_model.model_validate_json(input_json)
        except pydantic.ValidationError as error:
            raise InvalidInput([_fault(each) for each in error.errors()]) from error
        given = {name: getattr(model, field) for field, name in self.arguments.items()}
        given |= model.model_extra or {}
        if "self" in given:
            raise InvalidInput([Fault("$.self", "this name is taken by the call itself")])
        if self.takes_streaming:
            given[STREAMING] = True
        return given


@cache
def load(spec: str) -> tuple[TaskClass, ...]:
    """Every class with `@task` in `spec`, a path to a Python file or the name of a module.

    NotLoadable for whatever goes wrong, an exception or exit of the user's code included.
    """
    try:
        module = _import(spec)
        found = _declared_in(module)
        if not found:
            raise NotLoadable(spec, "it has no class with @task")
        tasks = tuple(task_class(spec, cls) for cls in found)
        _check_names(spec, tasks)
        return tasks
    except NotLoadable:
        raise
    except BaseException as error:
        # SystemExit too: a module that calls sys.exit must not take the forkserver with it.
        raise _told(spec, error) from error


def _check_names(spec: str, tasks: Sequence[TaskClass]) -> None:
    by_name: dict[str, TaskClass] = {}
    for task in tasks:
        other = by_name.setdefault(task.declaration.name, task)
        if other is not task:
            both = f"{place(other.cls)} and {place(task.cls)}"
            raise NotLoadable(spec, f"the task {task.declaration.name!r} is declared twice, by {both}")


def is_imported(spec: str) -> bool:
    """Whether the module that `spec` names is there already."""
    return (module_name(Path(spec)) if is_file(spec) else spec) in sys.modules


def module_name(path: Path) -> str:
    """The name that a file is imported under.

    Its own, by which its folder's other modules and spawned data loaders find it too; where another
    module has that one, a name that is nobody else's.
    """
    holder = sys.modules.get(path.stem)
    if path.stem.isidentifier() and (holder is None or getattr(holder, "__file__", None) == str(path)):
        return path.stem
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return f"rankcast_task_{path.stem}_{digest}"


def _import(spec: str) -> types.ModuleType:
    if not is_file(spec):
        return importlib.import_module(spec)
    path = Path(spec).resolve()
    if not path.is_file():
        raise NotLoadable(spec, "there is no such file")
    # Its own folder, so that it finds the modules beside it as if it were run as a script.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = module_name(path)
    if name in sys.modules:
        # A file beside it was loaded first, and imports it.
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise NotLoadable(spec, "this is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _declared_in(module: types.ModuleType) -> list[type]:
    """The classes with `@task` of a module, or of one below it; what it imports from elsewhere is
    served where it is declared."""
    classes = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    name = module.__name__
    return [
        cls
        for cls in classes
        if declaration_of(cls) and (cls.__module__ == name or cls.__module__.startswith(f"{name}."))
    ]


def _told(spec: str, error: BaseException) -> NotLoadable:
    """The user's error with the line of the user's code that it comes from."""
    if isinstance(error, SyntaxError):
        file, line, message = error.filename or "", error.lineno or 0, f"SyntaxError: {error.msg}"
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_machinery(f.filename)]
        file, line = (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)
        message = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    return NotLoadable(spec, message, file=file, line=line, trace=trace)


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename in (__file__, declare.__file__)


def task_class(spec: str, cls: type) -> TaskClass:
    """A class with `@task`, found in `spec`, as this process can run it; NotLoadable if it cannot."""
    declaration = declaration_of(cls)
    assert declaration is not None
    where = place(cls)
    if not issubclass(cls, DistributedWorker):
        raise NotLoadable(spec, f"{where} has @task and must be a DistributedWorker")
    if "__call__" not in dir(cls) or cls.__call__ is DistributedWorker.__call__:
        raise NotLoadable(spec, f"{where} has no __call__")
    signature = inspect.signature(cls.__call__)
    hints, notes = _hints(cls.__call__)
    model, arguments = _input_of(spec, cls, signature, hints, notes)
    kinds = {p.kind for p in signature.parameters.values()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    return TaskClass(
        declaration=declaration,
        cls=cls,
        input_model=model,
        arguments=arguments,
        takes_streaming=STREAMING not in arguments.values()
        and (takes_any or STREAMING in signature.parameters),
        input_schema=_schema(model, "validation") or {},
        output_schema=_output_schema(hints.get("return", Any)),
        code_version=_code_version(cls),
        description=inspect.cleandoc(cls.__doc__ or ""),
        warnings=tuple(f"{where}: {note}" for note in notes),
    )


def _hints(call: Any) -> tuple[dict[str, Any], list[str]]:
    """The annotations of `call` as types, and what could not be understood."""
    try:
        return typing.get_type_hints(call, include_extras=True), []
    except Exception as error:
        return {}, [f"its annotations cannot be read, so any value is taken for every argument: {error}"]


def _input_of(
    spec: str,
    cls: type,
    signature: inspect.Signature,
    hints: Mapping[str, Any],
    notes: list[str],
) -> tuple[type[pydantic.BaseModel], dict[str, str]]:
    """The model of a task's input, and which field is which argument."""
    model = getattr(cls, "Input", None)
    if isinstance(model, type) and issubclass(model, pydantic.BaseModel):
        fields = {name: name for name in model.model_fields}
        _check_accepts(spec, cls, signature, fields)
        return model, fields
    _, *parameters = signature.parameters.values()
    fields, definitions = {}, {}
    extra: typing.Literal["allow", "forbid"] = "forbid"
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise NotLoadable(spec, f"{place(cls)}: argument {parameter.name!r} cannot be given by name")
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL and parameter.name != STREAMING:
            # Under a name of our own: arguments may be called `copy`, `json` or `_x`, fields may not.
            field = f"arg_{parameter.name.lstrip('_')}_{len(fields)}"
            fields[field] = parameter.name
            definitions[field] = _definition(parameter, hints.get(parameter.name, Any), notes)
    config = pydantic.ConfigDict(extra=extra, arbitrary_types_allowed=True, title=cls.__name__)
    made: Any = pydantic.create_model(cls.__name__, __config__=config, **definitions)
    return made, fields


def _check_accepts(spec: str, cls: type, signature: inspect.Signature, fields: Mapping[str, str]) -> None:
    parameters = signature.parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    if missing := [name for name in fields if name not in parameters]:
        raise NotLoadable(spec, f"{place(cls)}: __call__ does not take {missing[0]!r}, which its Input has")


def _definition(parameter: inspect.Parameter, hint: Any, notes: list[str]) -> Any:
    """A field for create_model."""
    required = parameter.default is inspect.Parameter.empty
    default = ... if required else parameter.default
    if hint is not Any and not _has_json_form(hint):
        notes.append(f"argument {parameter.name!r}: {hint!r} has no JSON form, so any value is taken")
        hint = Any
    if default is None and hint is not Any:
        # `seed: int = None` is common, and null is then as good as nothing.
        hint = hint | None
    title = parameter.name.strip("_").replace("_", " ").capitalize() or parameter.name
    return (hint, pydantic.Field(default, alias=parameter.name, title=title))


def _has_json_form(hint: Any) -> bool:
    try:
        pydantic.TypeAdapter(hint).json_schema()
    except (pydantic.PydanticUserError, TypeError):
        return False
    return True


def _schema(model: Any, mode: typing.Literal["validation", "serialization"]) -> dict[str, Any] | None:
    """JSON Schema of a type; None where it has none."""
    with warnings.catch_warnings():
        # A default that has no JSON form is left out of the schema, and stays the default.
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        try:
            return pydantic.TypeAdapter(model).json_schema(mode=mode)
        except (pydantic.PydanticUserError, TypeError):
            return None


def _output_schema(hint: Any) -> dict[str, Any] | None:
    return None if hint is Any else _schema(hint, "serialization")


def _fault(error: Any) -> Fault:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])
    return Fault("$" + "".join(steps), error["msg"])


def _code_version(cls: type) -> str:
    """Twelve hex digits of the file's hash."""
    try:
        source = Path(inspect.getfile(cls)).read_bytes()
    except (OSError, TypeError):
        source = cls.__qualname__.encode()
    return hashlib.sha256(source).hexdigest()[:12]


def place(cls: type) -> str:
    """Where a class is, for people."""
    try:
        return f"{cls.__qualname__} ({inspect.getfile(cls)})"
    except (OSError, TypeError):
        return cls.__qualname__
