"""Published packages, driven as their users do, with the hooks attached from outside: compared id by id.

`make subjects` installs them, each into an environment of its own. A driver's ground truth comes from what it did, not
from any hook.
"""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judged import judge
from sidecar_process import environment

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.slow]

HERE = Path(__file__).parent
VENV = Path(os.environ.get("SUBJECTS_VENV", HERE.parents[1] / ".venv"))
DEADLINE_S = 120
# SQLAlchemy's versions that a package runs with; Django has an ORM of its own.
SUBJECTS = {
    "adk": ("2.0", "2.1"),
    "agents": ("2.0", "2.1"),
    "langchain": ("1.4", "2.0", "2.1"),
    "django": ("",),
}
RUNS = [(name, version, kind) for name in SUBJECTS for version in SUBJECTS[name] for kind in ("sqlite", "postgresql")]


def installed(*path: str) -> Path:
    """What `make subjects` has installed; without it the test is skipped, and under CI=true it fails."""
    place = VENV.joinpath(*path)
    if not (place / ".installed").exists():
        problem = f"{place} is missing; install it with: make subjects"
        (pytest.fail if os.environ.get("CI", "").lower() in {"true", "1"} else pytest.skip)(problem)
    return place


def drive(name: str, version: str, home: Path, **own: str) -> dict[str, Any]:
    """Run a driver under `session-exporter run`; returns its ground truth."""
    subject = installed("subjects", name)
    path = [str(HERE), *([str(installed(f"sqlalchemy-{version}"))] if version else [])]
    config = home / "config.yml"
    config.write_text(f"journal: {{directory: {home / 'journal'}}}\n{(HERE / name).with_suffix('.yml').read_text()}")
    python = subject / "bin" / "python"
    command = [
        python,
        "-m",
        "session_exporter",
        "run",
        "--config.file",
        config,
        "--",
        python,
        HERE / f"drive_{name}.py",
    ]
    surroundings = {**environment(), "PYTHONPATH": os.pathsep.join(path), "TRUTH": str(home / "truth.json"), **own}
    finished = subprocess.run(
        command, env=surroundings, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return json.loads((home / "truth.json").read_text())


@pytest.mark.parametrize(("name", "version", "kind"), RUNS)
def test_creates_and_ends_are_those_of_the_ground_truth(
    name: str, version: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        address = f"sqlite:///{tmp_path / 'subject.db'}"
    else:
        postgres = request.getfixturevalue("postgres")
        address = postgres.dsn(postgres.database())
    truth = drive(name, version, tmp_path, DATABASE=address)
    found = judge(tmp_path / "journal", "chat", "--config.file", tmp_path / "config.yml")
    assert found.creates == Counter(session for _, session in truth["created"])
    assert found.ends == Counter(truth["ended"])
    users = {session: {user} for user, session in truth["created"] if user is not None}
    assert found.users == users
    creates = Counter(user for user, _ in truth["created"] if user is not None)
    assert found.duplicate_users == {user for user, count in creates.items() if count > 1}
