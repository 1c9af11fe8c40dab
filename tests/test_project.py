"""The project as others meet it: what is in the wheel, what an import costs, how long a module may be."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import session_exporter
from session_exporter.config import load

PROJECT = Path(__file__).resolve().parent.parent
SOURCES = PROJECT / "exporter"
MODULES = sorted(SOURCES.rglob("*.py"))
LINES_MAX = 350
# Libraries of the sidecar, or of some applications: an application that imports the tracker does not pay for them.
NOT_AT_IMPORT = (
    "aiohttp",
    "prometheus_client",
    "yaml",
    "click",
    "re2",
    "rich",
    "wrapt",
    "opentelemetry",
    "sqlite3",
    "asyncio",
)


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    """The names of the files in the wheel."""
    built = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built], check=True, cwd=PROJECT)
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_what_they_read(wheel_names) -> None:
    modules = {path.relative_to(SOURCES).as_posix() for path in MODULES}
    expected = modules | {"session_exporter/py.typed", "session_exporter/sidecar/landing.html"}
    assert expected <= wheel_names


def test_the_wheel_holds_nothing_but_the_package_and_its_licence(wheel_names) -> None:
    metadata = f"session_exporter-{session_exporter.__version__}.dist-info/"
    assert all(name.startswith(("session_exporter/", metadata)) for name in wheel_names)
    assert f"{metadata}licenses/LICENSE" in wheel_names


def test_importing_the_tracker_imports_no_library_of_the_sidecar() -> None:
    names = "SessionTracker, RequestContext"
    program = f"import sys; from session_exporter import {names}; print(set({NOT_AT_IMPORT}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_public_name_is_there() -> None:
    assert session_exporter.__all__ == sorted(session_exporter.__all__)
    assert {"__version__", *session_exporter._PLACES} == set(session_exporter.__all__)
    assert all(getattr(session_exporter, name) is not None for name in session_exporter.__all__)


def test_the_source_root_is_no_package() -> None:
    assert not (SOURCES / "__init__.py").exists()


def test_no_module_is_longer_than_a_reader_can_hold_in_mind() -> None:
    lengths = {path.relative_to(PROJECT): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: lines for path, lines in lengths.items() if lines > LINES_MAX} == {}


def test_the_licence_is_there() -> None:
    assert "Apache License" in (PROJECT / "LICENSE").read_text(encoding="utf-8")


def test_the_changelog_knows_the_version() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert session_exporter.__version__ in headings or f"will be {session_exporter.__version__}" in text


def test_the_example_configuration_is_correct() -> None:
    assert "conversation" in load(PROJECT / "deploy" / "session-exporter.example.yml").scopes


def test_every_link_of_the_documents_leads_somewhere() -> None:
    pages = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "tests").glob("*.md")]
    broken = [
        f"{page.relative_to(PROJECT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
