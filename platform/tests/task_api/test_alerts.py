"""Each alert fires when it should and not otherwise, in both Prometheus versions; each has a runbook."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from documentation import commands_run_by
from exported import FROM_OTHERS, METRICS, metrics_of
from manifests import REPOSITORY, one, render, sets
from promtool import BOTH_VERSIONS, Prometheus, promtool

# The library's and the service's own, as rendered for a release named task-api in the namespace default.
ALERTS: dict[str, Any] = one("PrometheusRule", render(*sets("prometheusRule.enabled=true")))["spec"]
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
RUNBOOKS = (REPOSITORY / "docs/operate.md").read_text()

JOB = 'namespace="default", job="task-api"'
POD = JOB + ', pod="task-api-1"'
ELSEWHERE = 'namespace="another", job="task-api", pod="task-api-1"'

Series = dict[str, str]
"""Series by name, with one value per minute, in promtool's notation: 0+60x9 is 0, 60, 120... ten values."""


@dataclass(frozen=True)
class Case:
    alert: str
    severity: str
    minutes: int
    firing: Series
    quiet: Series


def requests(failed: str, succeeded: str) -> Series:
    """Request counters with a total of one request per second."""
    return {
        f'http_requests_total{{{POD}, method="GET", route="/v1/tasks", status="200"}}': succeeded,
        f'http_requests_total{{{POD}, method="GET", route="/v1/tasks", status="503"}}': failed,
    }


def latencies(route: str, within: str, total: str) -> Series:
    """A histogram in which `within` took at most a second, and the others up to five."""
    name = f'http_request_duration_seconds_bucket{{{POD}, method="GET", route="{route}", le='
    return {name + '"1"}': within, name + '"5"}': total, name + '"+Inf"}': total}


def loop_lags(within: str, total: str) -> Series:
    name = f"task_api_event_loop_lag_seconds_bucket{{{POD}, le="
    return {name + '"0.1"}': within, name + '"1"}': total, name + '"+Inf"}': total}


def scrapes(health: str, metrics: str, pod: str = POD) -> Series:
    return {f'up{{{pod}, metrics_path="/health"}}': health, f'up{{{pod}, metrics_path="/metrics"}}': metrics}


def autoscaler(desired: str) -> Series:
    labels = '{namespace="default", horizontalpodautoscaler="task-api"}'
    return {
        f"kube_horizontalpodautoscaler_status_desired_replicas{labels}": desired,
        f"kube_horizontalpodautoscaler_spec_max_replicas{labels}": "10x60",
    }


def backups(last: str, created: str = "0x3000") -> Series:
    labels = '{namespace="default", cronjob="task-api-backup"}'
    return {
        f"kube_cronjob_created{labels}": created,
        **({f"kube_cronjob_status_last_successful_time{labels}": last} if last else {}),
    }


# The quiet cases are just below the threshold, or too short.
CASES = [
    Case("TaskApiDown", "critical", 10, firing=scrapes("0x60", "0x60"), quiet=scrapes("0x60", "1x60")),
    Case("TaskApiDown", "critical", 10, firing={}, quiet=scrapes("1x60", "1x60")),
    Case(  # a release with the same name in another namespace is unrelated
        "TaskApiDown",
        "critical",
        10,
        firing=scrapes("1x60", "1x60", pod=ELSEWHERE),
        quiet=scrapes("1x60", "1x60") | scrapes("0x60", "0x60", pod=ELSEWHERE),
    ),
    Case("TaskApiScrapeFailing", "warning", 15, firing=scrapes("0x60", "1x60"), quiet=scrapes("0x4 1x60", "1x60")),
    Case(
        "TaskApiDegraded",
        "critical",
        5,
        firing={f"task_api_health_status{{{POD}}}": "0x60", f'task_api_health_status{{{JOB}, pod="2"}}': "1x60"},
        quiet={f"task_api_health_status{{{POD}}}": "1x2 0 1x60"},
    ),
    Case(  # 2 % of the requests; the one-hour threshold is 1.44 %
        "TaskApiRequestsFailing",
        "critical",
        70,
        firing=requests("0+1.2x100", "0+58.8x100"),
        quiet=requests("0+0.6x100", "0+59.4x100"),
    ),
    Case(  # a high error ratio that is over
        "TaskApiRequestsFailing",
        "critical",
        70,
        firing=requests("0+12x100", "0+48x100"),
        quiet=requests("0+12x50 600x50", "0+48x50 2460+60x50"),
    ),
    Case(  # 1 % of the requests; the six-hour threshold is 0.6 %
        "TaskApiRequestsFailingSlowly",
        "warning",
        420,
        firing=requests("0+0.6x500", "0+59.4x500"),
        quiet=requests("0+0.3x500", "0+59.7x500"),
    ),
    Case(
        "TaskApiSlow",
        "warning",
        20,
        firing=latencies("/v1/tasks", "0+95x60", "0+100x60"),
        quiet=latencies("/v1/tasks", "0+99.5x60", "0+100x60") | latencies("/v1/changes", "0x60", "0+100x60"),
    ),
    Case(
        "TaskApiRestarting",
        "warning",
        25,
        firing={f"process_start_time_seconds{{{POD}}}": "1000x5 1400x5 1800x60"},
        quiet={f"process_start_time_seconds{{{POD}}}": "1000x5 1400x60"},
    ),
    Case(
        "TaskApiCpuThrottled",
        "warning",
        25,
        firing={
            f"task_api_cpu_throttled_periods_total{{{POD}}}": "0+180x60",
            f"task_api_cpu_periods_total{{{POD}}}": "0+600x60",
        },
        quiet={
            f"task_api_cpu_throttled_periods_total{{{POD}}}": "0+120x60",
            f"task_api_cpu_periods_total{{{POD}}}": "0+600x60",
        },
    ),
    Case(
        "TaskApiEventLoopBlocked",
        "warning",
        20,
        firing=loop_lags("0+95x60", "0+100x60"),
        quiet=loop_lags("0+99.5x60", "0+100x60"),
    ),
    Case("TaskApiAtMaxReplicas", "warning", 20, firing=autoscaler("10x60"), quiet=autoscaler("9x60")),
    Case(
        "TaskApiPoolExhausted",
        "warning",
        15,
        firing={f"task_api_db_pool_waiting{{{POD}}}": "3x60"},
        quiet={f"task_api_db_pool_waiting{{{POD}}}": "3x3 0 3x3 0 3x3 0 3x3 0 3x3 0"},
    ),
    Case(
        "TaskApiRequestsRejected",
        "warning",
        15,
        firing={f"task_api_db_rejected_total{{{POD}}}": "0+2x60"},
        quiet={f"task_api_db_rejected_total{{{POD}}}": "0 0 20x60"},
    ),
    # The last successful one after 3 hours is too old 30 hours later. Without any, the CronJob's creation time counts.
    Case("TaskApiBackupTooOld", "warning", 33 * 60 + 10, firing=backups("10800x3000"), quiet=backups("14400x3000")),
    Case("TaskApiBackupTooOld", "warning", 30 * 60 + 10, firing=backups(""), quiet=backups("", created="3600x3000")),
    Case(
        "TaskApiChangeFeedLagging",
        "warning",
        10,
        firing={f"task_api_change_feed_lag_seconds{{{POD}}}": "31x60"},
        quiet={f"task_api_change_feed_lag_seconds{{{POD}}}": "30x60"},
    ),
]


def alert_rules() -> list[dict[str, Any]]:
    return [rule for rule in RULES if "alert" in rule]


def promtool_tests() -> Iterator[dict[str, Any]]:
    """The cases in promtool's format: an alert with a `for` does not fire a minute before that time has passed."""
    for_minutes = {rule["alert"]: int(rule.get("for", "0m").removesuffix("m")) for rule in alert_rules()}
    for case in CASES:
        alert = {"labels": f'{{alertname="{case.alert}", severity="{case.severity}"}}', "value": 1}
        before: list[tuple[int, list[Any]]] = [(for_minutes[case.alert] - 1, [])] if for_minutes[case.alert] else []
        yield promtool_test(case, "fires", case.firing, [*before, (case.minutes, [alert])])
        yield promtool_test(case, "is quiet", case.quiet, [(case.minutes, [])])


def promtool_test(case: Case, what: str, series: Series, expected: list[tuple[int, list[Any]]]) -> dict[str, Any]:
    firing = f'count by (alertname, severity) (ALERTS{{alertname="{case.alert}", alertstate="firing"}})'
    return {
        "name": f"{case.alert} {what}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{minutes}m", "exp_samples": samples} for minutes, samples in expected
        ],
    }


@pytest.mark.parametrize("prometheus", BOTH_VERSIONS)
def test_alerts_fire_on_problems_and_stay_quiet_otherwise(prometheus: Prometheus, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(ALERTS))
    tests = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": list(promtool_tests())}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool(prometheus, tmp_path, "test", "rules", "tests.yaml")


@pytest.mark.parametrize("prometheus", BOTH_VERSIONS)
def test_rules_pass_promtool_check(prometheus: Prometheus, tmp_path: Path) -> None:
    """Expressions and annotation templates; duplicate rules are an error."""
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(ALERTS))
    promtool(prometheus, tmp_path, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")


def test_documented_commands_extract_the_rules_for_a_prometheus_without_operator(tmp_path: Path) -> None:
    (documented,) = commands_run_by("platform/tests/task_api/test_alerts.py", "docs/operate.md")
    (tmp_path / "platform").symlink_to(REPOSITORY / "platform")
    subprocess.run(["bash", "-euo", "pipefail", "-c", documented.commands], cwd=tmp_path, check=True)
    assert yaml.safe_load((tmp_path / "alerts.yaml").read_text()) == ALERTS


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == {rule["alert"] for rule in alert_rules()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.get("alert") or rule["record"]))
def test_every_rule_selects_one_release_and_existing_metrics(rule: dict[str, Any]) -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    assert metrics_of(rule["expr"]) <= METRICS | FROM_OTHERS | recorded
    selectors = re.findall(r"\{[^}]*\}", rule["expr"])
    assert selectors
    for selector in selectors:
        # Replaced by the chart's template with the release's namespace and name.
        pattern = (
            r'\{namespace="default", (job="task-api"|horizontalpodautoscaler="task-api"|cronjob="task-api-backup")'
        )
        assert re.match(pattern, selector)


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_a_severity_and_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operate.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in RUNBOOKS


def test_metrics_table_lists_every_metric() -> None:
    (table,) = re.findall(r"\n### Metrics\n(.*?)\n## ", RUNBOOKS, re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == METRICS
