"""What a service counts."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from chassis.metrics import CpuThrottling

V2 = "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\nnr_periods 40\nnr_throttled 7\nthrottled_usec 1500000\n"
V1 = "nr_periods 50\nnr_throttled 8\nthrottled_time 2500000000\n"


def throttling(root: Path) -> dict[str, float | None]:
    registry = CollectorRegistry()
    registry.register(CpuThrottling("hello", root))
    names = ("periods", "throttled_periods", "throttled_seconds")
    return {name: registry.get_sample_value(f"hello_cpu_{name}_total") for name in names}


def test_the_cpu_limits_effect_is_read_from_either_version_of_cgroups(tmp_path: Path) -> None:
    nothing = {"periods": None, "throttled_periods": None, "throttled_seconds": None}
    assert throttling(tmp_path) == nothing
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.stat").write_text(V1)
    assert throttling(tmp_path) == {"periods": 50, "throttled_periods": 8, "throttled_seconds": 2.5}
    # Without a limit the file has only the usage, as at the root of version 2.
    (tmp_path / "cpu" / "cpu.stat").unlink()
    (tmp_path / "cpu.stat").write_text("usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\n")
    assert throttling(tmp_path) == nothing
    (tmp_path / "cpu.stat").write_text(V2)
    assert throttling(tmp_path) == {"periods": 40, "throttled_periods": 7, "throttled_seconds": 1.5}
