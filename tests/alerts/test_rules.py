"""The alerts: what promtool says of them, their own tests, and that each has what a person needs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
RULES = PROJECT / "alerts" / "session-exporter.rules.yml"
TESTS = Path(__file__).with_name("session-exporter.test.yml")
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


@pytest.fixture(scope="module")
def promtool(require_server):
    command = require_server("promtool")

    def run(*arguments):
        done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=PROJECT)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_the_rules_are_correct_and_nothing_about_them_is_dubious(promtool) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_the_alerts_fire_at_the_first_event_and_at_nothing_else(promtool) -> None:
    promtool("test", "rules", TESTS)


def test_the_prometheus_configuration_that_we_ship_is_correct(promtool) -> None:
    promtool("check", "config", PROJECT / "deploy" / "prometheus.yml")


def test_the_job_that_the_alerts_expect_is_the_one_that_the_configuration_names() -> None:
    [scrape] = yaml.safe_load((PROJECT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    jobs = {job for alert in ALERTS.values() for job in re.findall(r'job="([^"]*)"', alert["expr"])}
    assert jobs == {scrape["job_name"]}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_tested_firing_and_silent(name) -> None:
    checks = [
        check
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for check in test["alert_rule_test"]
        if check["alertname"] == name
    ]
    assert any(check["exp_alerts"] for check in checks)
    assert any(not check["exp_alerts"] for check in checks)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_runbook_with_the_four_parts(name) -> None:
    runbook = PROJECT / ALERTS[name]["annotations"]["runbook"]
    assert runbook.name == f"{name}.md"
    headings = re.findall(r"^#+ (.*)$", runbook.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [name, "Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_every_runbook_has_an_alert() -> None:
    assert {path.stem for path in (PROJECT / "alerts" / "runbooks").glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_how_bad_it_is_and_what_it_is_about(name) -> None:
    alert = ALERTS[name]
    assert re.fullmatch("Session([A-Z][a-z]+)+", name)
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert "{{" not in alert["annotations"]["summary"]
