"""A user's file becomes tasks: their names, the shape of their input, and typed arguments."""

import json
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rankcast.gpu_worker.load import NotLoadable, TaskClass, is_imported, load, module_name
from rankcast.tasks.errors import InvalidInput

HEAD = "from rankcast import DistributedWorker, task\n"

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """`write(body, name="steps.py")` makes a file of tasks and returns its path."""
    path = list(sys.path)

    def write(body: str, name: str = "steps.py") -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HEAD + textwrap.dedent(body))
        return str(file)

    yield write
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def only(spec: str) -> TaskClass:
    (found,) = load(spec)
    return found


def task_with(write: Write, signature: str, *, before: str = "") -> TaskClass:
    """A task whose `__call__` has these arguments."""
    body = f"{before}\n@task('a/t')\nclass T(DistributedWorker):\n    def __call__(self, {signature}): ...\n"
    return only(write(body))


def faults(task: TaskClass, given: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        task.arguments_of(given)
    return {fault.path: fault.message for fault in caught.value.faults}


def test_a_file_may_hold_several_tasks(write):
    """In the order in which it declares them; what it imports undecorated is no task."""
    spec = write(
        """
        class Base(DistributedWorker):
            def __call__(self): ...
        @task("acme/one", world_size=2, timeout_s=9, setup_timeout_s=8, cancel_grace_s=7)
        class One(Base):
            '''Does one thing.

            And says so.
            '''
        @task("acme/two")
        class Two(Base): ...
        """
    )
    one, two = load(spec)
    assert [t.declaration.name for t in (one, two)] == ["acme/one", "acme/two"]
    assert (one.declaration.world_size, one.declaration.timeout_s) == (2, 9)
    assert one.description == "Does one thing.\n\nAnd says so."
    assert two.description == ""


def test_a_module_is_found_by_its_name(write, tmp_path):
    """As `import` finds it."""
    write("@task('a/b')\nclass B(DistributedWorker):\n    def __call__(self): ...", name="acme_pkg/steps.py")
    sys.path.insert(0, str(tmp_path))
    assert only("acme_pkg.steps").declaration.name == "a/b"
    assert is_imported("acme_pkg.steps")


def test_a_file_finds_the_modules_beside_it(write):
    """As if it were run as a script."""
    write("TIMES = 3", name="beside_steps.py")
    assert task_with(write, "n: int = TIMES", before="from beside_steps import TIMES").arguments_of("{}") == {
        "n": 3
    }


ONE_TASK = "@task('a/{0}')\nclass T{0}(DistributedWorker):\n    def __call__(self): ..."


def test_a_file_is_imported_once(write):
    """Under its own name, by which a spawned data loader finds what it was given."""
    spec = write(ONE_TASK.format("x"), name="my_steps_x.py")
    assert not is_imported(spec)
    task = only(spec)
    assert is_imported(spec)
    assert load(spec) is load(spec)
    assert pickle.loads(pickle.dumps(task.cls)) is task.cls  # noqa: S301
    assert task.cls.__module__ == "my_steps_x"


def test_a_file_whose_name_is_taken_gets_another(write):
    """It shadows nobody, and two files of one name do not meet."""
    first, second = write(ONE_TASK.format("y"), "one/json.py"), write(ONE_TASK.format("z"), "two/json.py")
    names = [only(spec).cls.__module__ for spec in (first, second)]
    assert names == [module_name(Path(first)), module_name(Path(second))]
    assert names[0] != names[1]
    assert sys.modules["json"] is json


def test_a_task_is_served_where_it_is_declared(write, tmp_path):
    """Not where it is imported too; a package serves what it takes from its own modules."""
    write(ONE_TASK.format("i"), name="inner_i.py")
    outer = write("import inner_i\nfrom inner_i import Ti\n" + ONE_TASK.format("o"), name="outer_o.py")
    assert only(outer).declaration.name == "a/o"
    assert only(str(tmp_path / "inner_i.py")).cls is sys.modules["inner_i"].Ti
    write(ONE_TASK.format("m"), name="pkg_p/inside.py")
    write("from .inside import Tm", name="pkg_p/__init__.py")
    assert only("pkg_p").declaration.name == "a/m"


def test_the_signature_is_the_schema(write):
    """Required, defaults, types, and nothing else allowed."""
    task = task_with(write, "prompt: str, steps: int = 20, scale: float | None = None, anything=None")
    assert task.input_schema == {
        "type": "object",
        "title": "T",
        "additionalProperties": False,
        "required": ["prompt"],
        "properties": {
            "prompt": {"type": "string", "title": "Prompt"},
            "steps": {"type": "integer", "title": "Steps", "default": 20},
            "scale": {"anyOf": [{"type": "number"}, {"type": "null"}], "title": "Scale", "default": None},
            "anything": {"title": "Anything", "default": None},
        },
    }
    assert task.arguments_of('{"prompt":"x","scale":1}') == {
        "prompt": "x",
        "steps": 20,
        "scale": 1.0,
        "anything": None,
    }


def test_arguments_arrive_typed(write):
    """Models, dates and enums, not the JSON that they came as."""
    before = """
import datetime, enum, pydantic
class Size(pydantic.BaseModel):
    width: int
class Mode(enum.Enum):
    FAST = "fast"
"""
    task = task_with(
        write, "size: Size, mode: Mode, day: datetime.date, pair: tuple[int, int]", before=before
    )
    given = task.arguments_of('{"size":{"width":3},"mode":"fast","day":"2026-01-02","pair":[1,2]}')
    assert (given["size"].width, given["mode"].name) == (3, "FAST")
    assert (given["day"].year, given["pair"]) == (2026, (1, 2))


def test_every_fault_of_an_input_is_told_with_its_path(write):
    """At once, not one after the other."""
    task = task_with(write, "prompt: str, sizes: list[int] = []")
    found = faults(task, '{"sizes":[1,"x"],"more":1}')
    assert set(found) == {"$.prompt", "$.sizes[1]", "$.more"}


@pytest.mark.parametrize("given", ["", "[]", "{", "null", '{"prompt":"\\ud800"}'])
def test_what_is_no_json_object_is_refused(write, given):
    """With a fault, not with a crash."""
    assert faults(task_with(write, "prompt: str = ''"), given)


def test_keyword_arguments_take_whatever_comes(write):
    """`**kwargs` opens the schema."""
    task = task_with(write, "prompt: str = 'x', **kwargs")
    assert task.input_schema["additionalProperties"] is True
    assert task.arguments_of('{"seed":7}') == {"prompt": "x", "seed": 7, "streaming": True}
    assert faults(task, '{"self":7}') == {"$.self": "this name is taken by the call itself"}


@pytest.mark.parametrize(
    ("signature", "expected"),
    [("streaming: bool, n: int = 1", {"streaming": True, "n": 1}), ("n: int = 1", {"n": 1})],
)
def test_streaming_goes_to_those_who_take_it_and_is_no_input(write, signature, expected):
    """fal always passes it, so its own sample without it fails with a TypeError."""
    task = task_with(write, signature)
    assert task.arguments_of("{}") == expected
    assert list(task.input_schema["properties"]) == ["n"]


def test_arguments_may_have_names_that_a_model_could_not(write):
    """`copy`, `json` and `_x` are no fields that pydantic would take."""
    task = task_with(write, "copy: int, json: int = 2, _x: int = 3, model_config: int = 4, schema_: int = 5")
    assert set(task.input_schema["properties"]) == {"copy", "json", "_x", "model_config", "schema_"}
    assert task.arguments_of('{"copy":1,"_x":9}') == {
        "copy": 1,
        "json": 2,
        "_x": 9,
        "model_config": 4,
        "schema_": 5,
    }


def test_none_as_a_default_makes_null_allowed(write):
    """`seed: int = None` is how many write it."""
    task = task_with(write, "seed: int = None")
    assert task.arguments_of('{"seed":null}') == {"seed": None}


def test_an_input_model_inside_the_class_wins(write):
    """With all that pydantic can say of a field."""
    spec = write(
        """
        import pydantic
        @task("a/b")
        class B(DistributedWorker):
            class Input(pydantic.BaseModel):
                steps: int = pydantic.Field(20, ge=1, le=100)
            def __call__(self, steps): ...
        """
    )
    task = only(spec)
    assert task.input_schema["properties"]["steps"]["maximum"] == 100
    assert task.arguments_of('{"steps":3}') == {"steps": 3}
    assert set(faults(task, '{"steps":0}')) == {"$.steps"}


def test_the_return_annotation_is_the_output_type(write):
    """None where nothing is said, or nothing that JSON knows."""
    body = "@task('a/b')\nclass B(DistributedWorker):\n    def __call__(self){}: ...\n"
    assert only(write(body.format(" -> dict[str, int]"), "a.py")).output_schema == {
        "type": "object",
        "additionalProperties": {"type": "integer"},
    }
    assert only(write(body.format(""), "b.py")).output_schema is None
    assert only(write(body.format(" -> type(iter([]))"), "c.py")).output_schema is None


@pytest.mark.parametrize(
    ("signature", "before"),
    [("engine: Engine = None", "class Engine: ..."), ("engine: 'NoSuchType' = None", "")],
)
def test_an_argument_of_a_type_without_json_form_takes_anything_and_is_told(write, signature, before):
    """A port from fal keeps such arguments for its own tests."""
    task = task_with(write, signature, before=before)
    assert task.arguments_of('{"engine":[1]}') == {"engine": [1]}
    assert len(task.warnings) == 1
    assert "any value is taken" in task.warnings[0]


def test_the_code_version_follows_the_file(write):
    """Another file, another version; the same file, the same."""
    body = "@task('a/b')\nclass B(DistributedWorker):\n    def __call__(self): ..."
    first, same = only(write(body, "a.py")), only(write(body, "b.py"))
    other = only(write(body + "\n# edited", "c.py"))
    assert first.code_version == same.code_version != other.code_version


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("\nimport no_such_module", 3, "No module named 'no_such_module'"),
        ("def f(:", 2, "SyntaxError"),
        ("\n\n1 / 0", 4, "ZeroDivisionError"),
        ("import sys\nsys.exit(3)", 3, "SystemExit: 3"),
        ("@task('bad name')\nclass B(DistributedWorker): ...", 2, "owner/name"),
        ("", 0, "no class with @task"),
        ("@task('a/b')\nclass B: ...", 0, "must be a DistributedWorker"),
        ("@task('a/b')\nclass B(DistributedWorker): ...", 0, "has no __call__"),
        (
            "@task('a/b')\nclass B(DistributedWorker):\n    def __call__(self, x, /): ...",
            0,
            "'x' cannot be given by name",
        ),
        (
            "class W(DistributedWorker):\n    def __call__(self): ...\n"
            "@task('a/b')\nclass B(W): ...\n@task('a/b')\nclass C(W): ...",
            0,
            "'a/b' is declared twice",
        ),
        (
            "import pydantic\n@task('a/b')\nclass B(DistributedWorker):\n"
            "    class Input(pydantic.BaseModel):\n        x: int\n    def __call__(self, y): ...",
            0,
            "does not take 'x'",
        ),
    ],
)
def test_what_cannot_be_loaded_says_where_and_why(write, body, line, message):
    """File, line and reason, for the worker's start."""
    spec = write(body)
    with pytest.raises(NotLoadable, match=message) as caught:
        load(spec)
    assert caught.value.line == line
    assert (caught.value.file == spec) == (line > 0)


@pytest.mark.parametrize("spec", ["/no/such/file.py", "no_such_module_either"])
def test_a_spec_that_names_nothing_is_told(spec):
    with pytest.raises(NotLoadable, match=r"no such|No module"):
        load(spec)


def test_an_error_deep_in_the_users_code_keeps_its_traceback(write):
    """It points to the innermost line; the traceback has the rest."""
    write("def broken():\n    raise LookupError('weights')", name="helper_of_steps.py")
    spec = write("import helper_of_steps\nhelper_of_steps.broken()")
    with pytest.raises(NotLoadable, match="weights") as caught:
        load(spec)
    assert caught.value.file.endswith("helper_of_steps.py")
    assert spec in caught.value.traceback
