"""The thread count follows the container's quota, in every way that Linux writes it down."""

import os
from pathlib import Path

import pytest

from service.engine.threads import available_cpus

CPUS = len(os.sched_getaffinity(0))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def count(tmp_path: Path, membership: str) -> int:
    write(tmp_path / "membership", membership)
    return available_cpus(cgroups=tmp_path / "fs", membership=tmp_path / "membership")


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def test_without_a_quota_affinity_decides(tmp_path: Path) -> None:
    assert count(tmp_path, "") == 16
    write(tmp_path / "fs/cpu.max", "max 100000\n")
    assert count(tmp_path, "0::/\n") == 16
    write(tmp_path / "fs/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "fs/cpu/cpu.cfs_period_us", "100000\n")
    assert count(tmp_path, "4:cpu,cpuacct:/\n") == 16


@pytest.mark.parametrize(("quota", "expected"), [(200_000, 2), (250_000, 2), (50_000, 1), (9_900_000, 16)])
def test_v2_in_a_container(tmp_path: Path, quota: int, expected: int) -> None:
    write(tmp_path / "fs/cpu.max", f"{quota} 100000\n")
    assert count(tmp_path, "0::/\n") == expected


def test_v2_takes_the_tightest_group_above(tmp_path: Path) -> None:
    write(tmp_path / "fs/slice/cpu.max", "300000 100000\n")
    write(tmp_path / "fs/slice/unit/cpu.max", "max 100000\n")
    assert count(tmp_path, "0::/slice/unit\n") == 3


def test_v2_with_the_hosts_path(tmp_path: Path) -> None:
    """Without a cgroup namespace the path names folders that the container does not see."""
    write(tmp_path / "fs/cpu.max", "400000 100000\n")
    assert count(tmp_path, "0::/docker/0123456789abcdef\n") == 4


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_v1(tmp_path: Path, mount: str) -> None:
    write(tmp_path / "fs" / mount / "group/cpu.cfs_quota_us", "150000\n")
    write(tmp_path / "fs" / mount / "group/cpu.cfs_period_us", "50000\n")
    assert count(tmp_path, f"4:{mount}:/group\n2:cpuacct:/\n") == 3


def test_what_cannot_be_read_is_no_limit(tmp_path: Path) -> None:
    write(tmp_path / "fs/cpu.max", "nonsense\n")
    assert count(tmp_path, "0::/\n") == 16
    assert available_cpus(cgroups=tmp_path / "none", membership=tmp_path / "none") == 16
