"""Every class has one definition in the whole project, the model's classes in one place.

Two classes of one name, with a field that one has and the other calls something else, once hid a real error behind an
AttributeError. What is looked at is the source: every way to bind a name of the model counts, be it a class statement
(in a function, a class, an `if` or a `try` as well), an assignment, a `type` statement or an import under another name.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parent.parent
HOME = "exporter/session_exporter/core/model.py"
# Where the names of the model are bound, each once.
HOMES = {
    "BaseSessionMetrics": HOME,
    "DatabaseSessionMetrics": HOME,
    "SystemSessionMetrics": HOME,
    "SessionMetrics": HOME,
    "DatabaseMetrics": HOME,
    "SystemMetrics": HOME,
    "SessionState": HOME,
    "RequestContext": "exporter/session_exporter/core/context.py",
}
# Not the project's own sources.
ASIDE = {"tests", "build", "dist", "node_modules", "__pycache__", "site-packages"}


class Definition(NamedTuple):
    """A name that is bound to a class, or to what may be one; `shape` is None when the source does not tell."""

    name: str
    path: str
    line: int
    shape: frozenset[str] | None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def sources(root: Path) -> Iterator[Path]:
    """All Python files but tests, what is built, and what is hidden."""
    for path in sorted(root.rglob("*.py")):
        folders = path.relative_to(root).parts[:-1]
        if not any(folder in ASIDE or folder.startswith(".") for folder in folders):
            yield path


def definitions(root: Path) -> list[Definition]:
    return [
        Definition(name, path.relative_to(root).as_posix(), node.lineno, shape)
        for path in sources(root)
        for node in ast.walk(ast.parse(path.read_bytes(), str(path)))
        for name, shape in bound(node)
    ]


def bound(node: ast.AST) -> Iterator[tuple[str, frozenset[str] | None]]:
    """What a statement binds: every class, and of other things the names of the model."""
    if isinstance(node, ast.ClassDef):
        yield node.name, frozenset(members(node))
        return
    names: list[str] = []
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        names = [node.id]
    elif isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.asname for alias in node.names if alias.asname and alias.asname != alias.name.split(".")[-1]]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = [node.name]
    yield from ((name, None) for name in names if name in HOMES)


def members(cls: ast.ClassDef) -> Iterator[str]:
    """The fields of a class with their annotations and its methods with their parameters, one text each."""
    for node in body(cls):
        if isinstance(node, ast.AnnAssign):
            yield f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
        elif isinstance(node, ast.Assign):
            yield from (ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{node.name}({ast.unparse(node.args)})"
            yield from (f"self.{name}" for name in assigned_to_self(node))


def body(cls: ast.ClassDef) -> Iterator[ast.stmt]:
    """The statements of a class, those under `if` and `try` included."""
    waiting = list(cls.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If | ast.Try | ast.With):
            waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
        else:
            yield node


def assigned_to_self(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def faults(found: list[Definition]) -> list[str]:
    """What is wrong, one sentence each; nothing when every class has one definition."""
    by_name: dict[str, list[Definition]] = defaultdict(list)
    for definition in found:
        by_name[definition.name].append(definition)
    sentences = []
    for name, group in sorted(by_name.items()):
        places = ", ".join(map(str, group))
        if name in HOMES and len(group) > 1:
            sentences.append(f"{name} is defined {len(group)} times: {places}")
        elif len({definition.shape for definition in group}) > 1:
            shapes = [definition.shape or frozenset() for definition in group]
            differing = sorted(frozenset.union(*shapes) - frozenset.intersection(*shapes))
            sentences.append(f"{name} has different members in {places}: {', '.join(differing)}")
    return sentences


def test_every_class_of_the_project_has_one_definition() -> None:
    found = faults(definitions(PROJECT))
    assert not found, "\n".join(found)


def test_the_names_of_the_model_are_bound_where_they_belong() -> None:
    found = {definition.name: definition.path for definition in definitions(PROJECT)}
    assert {name: found.get(name) for name in HOMES} == HOMES


def test_the_whole_project_is_looked_at_and_its_tests_are_not() -> None:
    looked_at = {path.relative_to(PROJECT).as_posix() for path in sources(PROJECT)}
    assert {HOME, "exporter/session_exporter/errors.py"} <= looked_at
    assert not any(path.startswith("tests/") for path in looked_at)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with one definition of everything."""
    write(tmp_path, "exporter/pkg/model.py", "class SessionMetrics:\n    last_activity_at: float\n")
    write(tmp_path, "exporter/pkg/use.py", "from pkg.model import SessionMetrics\n\nmetrics = SessionMetrics()\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_project_with_one_definition_has_no_faults(project: Path) -> None:
    assert faults(definitions(project)) == []


@pytest.mark.parametrize("where", ["exporter/pkg/other.py", "alerts/x.py", "grafana/a/x.py", "deploy/x.py", "setup.py"])
def test_a_second_definition_is_found_wherever_it_is(project: Path, where: str) -> None:
    write(project, where, "class SessionMetrics:\n    last_activity_at: float\n")
    [fault] = faults(definitions(project))
    assert fault.startswith("SessionMetrics is defined 2 times: ")
    assert f"{where}:1" in fault
    assert "exporter/pkg/model.py:1" in fault


SECOND_DEFINITIONS = {
    "in an if": "import sys\nif sys.platform == 'linux':\n    class SessionMetrics: ...\n",
    "in an except": (
        "try:\n    from pkg.model import SessionMetrics\nexcept ImportError:\n    class SessionMetrics: ...\n"
    ),
    "in a function": "def make():\n    class SessionMetrics: ...\n    return SessionMetrics\n",
    "in a class": "class Outer:\n    class SessionMetrics: ...\n",
    "an alias": "from pkg.other import Thing\nSessionMetrics = Thing\n",
    "an alias in an else": "if True:\n    pass\nelse:\n    SessionMetrics = object\n",
    "an annotated alias": "from typing import TypeAlias\nSessionMetrics: TypeAlias = 'dict[str, int]'\n",
    "one of several targets": "Other, SessionMetrics = object, object\n",
    "made by a call": "from collections import namedtuple\nSessionMetrics = namedtuple('SessionMetrics', 'a')\n",
    "a walrus": "print(SessionMetrics := object)\n",
    "imported under the name": "from pkg.other import Thing as SessionMetrics\n",
    "a module under the name": "import pkg.other as SessionMetrics\n",
    "a function": "def SessionMetrics(): ...\n",
}


@pytest.mark.parametrize("text", SECOND_DEFINITIONS.values(), ids=SECOND_DEFINITIONS)
def test_a_second_definition_is_found_however_it_is_made(project: Path, text: str) -> None:
    write(project, "exporter/pkg/other.py", text)
    [fault] = [fault for fault in faults(definitions(project)) if fault.startswith("SessionMetrics is defined 2 times")]
    assert "exporter/pkg/other.py" in fault


def test_two_definitions_in_one_file_are_found(project: Path) -> None:
    write(
        project,
        "exporter/pkg/model.py",
        "if True:\n    class SystemMetrics: ...\nelse:\n    class SystemMetrics: ...\n",
    )
    assert faults(definitions(project)) == [
        "SystemMetrics is defined 2 times: exporter/pkg/model.py:2, exporter/pkg/model.py:4"
    ]


@pytest.mark.parametrize("name", HOMES)
def test_every_name_of_the_model_is_watched(project: Path, name: str) -> None:
    for number in range(2):
        write(project, f"exporter/pkg/copy{number}.py", f"class {name}: ...\n")
    assert any(fault.startswith(f"{name} is defined") for fault in faults(definitions(project)))


DISAGREEMENTS = {
    "a field": ("last_activity: float", "last_activity_at: float", "last_activity: float, last_activity_at: float"),
    "a type": ("count: int", "count: float", "count: float, count: int"),
    "a constant": ("A = 1", "B = 1", "A, B"),
    "a method": ("def close(self): ...", "def stop(self): ...", "close(self), stop(self)"),
    "a parameter": ("def close(self): ...", "def close(self, at): ...", "close(self), close(self, at)"),
    "an attribute": ("def f(self): self.a = 1", "def f(self): self.b = 1", "self.a, self.b"),
    "a member under an if": ("pass", "if True:\n        def f(self): ...", "f(self)"),
    "a member under a try": ("pass", "try:\n        a: int\n    finally:\n        b: int", "a: int, b: int"),
}


@pytest.mark.parametrize(("one", "two", "differing"), DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_two_classes_of_one_name_that_disagree_are_found(project: Path, one: str, two: str, differing: str) -> None:
    write(project, "exporter/pkg/one.py", f"class Gauge:\n    {one}\n")
    write(project, "deploy/two.py", f"class Gauge:\n    {two}\n")
    assert faults(definitions(project)) == [
        f"Gauge has different members in deploy/two.py:1, exporter/pkg/one.py:1: {differing}"
    ]


def test_two_classes_of_one_name_that_agree_are_no_fault(project: Path) -> None:
    for place in ("one", "two"):
        write(project, f"exporter/pkg/{place}.py", "class Gauge:\n    count: int\n    def set(self, to): ...\n")
    assert faults(definitions(project)) == []


@pytest.mark.parametrize("where", ["tests/test_x.py", ".venv/lib/x.py", "exporter/pkg/__pycache__/x.py", "build/x.py"])
def test_tests_and_what_is_built_are_aside(project: Path, where: str) -> None:
    write(project, where, "class SessionMetrics: ...\n")
    assert faults(definitions(project)) == []


def test_a_file_that_does_not_parse_is_a_failure_and_not_passed_over(project: Path) -> None:
    write(project, "deploy/broken.py", "class SessionMetrics(:\n")
    with pytest.raises(SyntaxError, match=r"broken\.py"):
        definitions(project)
