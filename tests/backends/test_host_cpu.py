from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.backends.host_cpu import cgroup_quota, parse_cpus, usable

V1 = "33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2 = "41 31 0:38 {root} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw"
V2_HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def topology(siblings: Mapping[int, str], packages: Mapping[int, int] | None = None) -> dict[str, str]:
    files = {"sys/devices/system/cpu/online": f"0-{max(siblings)}"}
    for cpu, threads in siblings.items():
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{folder}/thread_siblings_list"] = threads
        files[f"{folder}/core_id"] = str(min(parse_cpus(threads)))
        files[f"{folder}/physical_package_id"] = str((packages or {}).get(cpu, 0))
    return files


FOUR = topology({cpu: str(cpu) for cpu in range(4)})
SMT = topology({0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6", 7: "3,7"})


def cgroup(membership: str, *mounts: str) -> dict[str, str]:
    return {"proc/self/cgroup": membership, "proc/self/mountinfo": "\n".join(mounts)}


def found(root: Path, affinity: set[int]) -> tuple[list[int], str]:
    host = usable(root=root, affinity=frozenset(affinity))
    assert host.capacity.cores == len(host.cores)
    assert host.capacity.reason == host.reason
    return [core.cpu for core in host.cores], host.reason


def test_two_threads_of_a_core_count_once(tmp_path):
    cpus, reason = found(tree(tmp_path, SMT), set(range(8)))
    assert cpus == [0, 1, 2, 3]
    assert reason == "4 physical cores (affinity 8 of 8 CPUs, no cgroup quota)"


def test_a_core_of_which_only_the_second_thread_is_allowed_counts(tmp_path):
    host = usable(root=tree(tmp_path, SMT), affinity=frozenset({1, 5, 6}))
    assert [core.cpu for core in host.cores] == [1, 6]
    assert [core.threads for core in host.cores] == [{1, 5}, {2, 6}]


def test_neighbours_lie_on_one_socket(tmp_path):
    # Linux often numbers CPUs of two sockets in turn.
    root = tree(tmp_path, topology({cpu: str(cpu) for cpu in range(4)}, {0: 0, 1: 1, 2: 0, 3: 1}))
    assert found(root, {0, 1, 2, 3})[0] == [0, 2, 1, 3]


def test_affinity_of_one(tmp_path):
    cpus, reason = found(tree(tmp_path, FOUR), {2})
    assert cpus == [2]
    assert reason == "1 physical core (affinity 1 of 4 CPUs, no cgroup quota)"


def test_without_sysfs_each_cpu_is_taken_for_a_core_and_it_says_so(tmp_path):
    cpus, reason = found(tmp_path, {0, 1, 2})
    assert cpus == [0, 1, 2]
    assert reason.startswith("3 physical cores")
    assert "topology unknown, each CPU taken for a core" in reason


def test_quota_of_cgroup_v1(tmp_path):
    folder = "sys/fs/cgroup/cpu,cpuacct/docker/abc"
    root = tree(
        tmp_path,
        FOUR
        | cgroup("4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc", V1_MEMORY, V1.format(root="/"))
        | {f"{folder}/cpu.cfs_quota_us": "250000", f"{folder}/cpu.cfs_period_us": "100000"},
    )
    cpus, reason = found(root, {0, 1, 2, 3})
    assert cpus == [0, 1]
    assert reason == "2 physical cores (affinity 4 of 4 CPUs, cgroup quota 2.5 CPUs)"


def test_a_container_sees_its_own_cgroup_v1_as_the_mount(tmp_path):
    folder = "sys/fs/cgroup/cpu,cpuacct"
    root = tree(
        tmp_path,
        cgroup("3:cpu,cpuacct:/docker/abc", V1.format(root="/docker/abc"))
        | {f"{folder}/cpu.cfs_quota_us": "150000", f"{folder}/cpu.cfs_period_us": "100000"},
    )
    assert cgroup_quota(root) == 1.5


def test_no_limit_in_cgroup_v1_is_minus_one(tmp_path):
    folder = "sys/fs/cgroup/cpu,cpuacct"
    root = tree(
        tmp_path,
        cgroup("3:cpu,cpuacct:/", V1.format(root="/"))
        | {f"{folder}/cpu.cfs_quota_us": "-1", f"{folder}/cpu.cfs_period_us": "100000"},
    )
    assert cgroup_quota(root) is None


@pytest.mark.parametrize(
    ("own", "slice_", "quota"),
    [
        ("max 100000", "300000 100000", 3.0),
        ("200000 100000", "300000 100000", 2.0),
        ("max 100000", "max 100000", None),
    ],
)
def test_quota_of_cgroup_v2_is_the_tightest_of_all_ancestors(tmp_path, own, slice_, quota):
    root = tree(
        tmp_path,
        cgroup("0::/kubepods.slice/pod1/box", V2.format(root="/"))
        | {
            "sys/fs/cgroup/kubepods.slice/cpu.max": "max 100000",
            "sys/fs/cgroup/kubepods.slice/pod1/cpu.max": slice_,
            "sys/fs/cgroup/kubepods.slice/pod1/box/cpu.max": own,
        },
    )
    assert cgroup_quota(root) == quota


def test_a_quota_below_one_leaves_one_core(tmp_path):
    root = tree(
        tmp_path, FOUR | cgroup("0::/", V2.format(root="/")) | {"sys/fs/cgroup/cpu.max": "50000 100000"}
    )
    cpus, reason = found(root, {0, 1, 2, 3})
    assert cpus == [0]
    assert reason == "1 physical core (affinity 4 of 4 CPUs, cgroup quota 0.5 CPUs)"


def test_a_path_outside_the_cgroup_namespace_is_the_mount_itself(tmp_path):
    root = tree(
        tmp_path, cgroup("0::/../other", V2.format(root="/")) | {"sys/fs/cgroup/cpu.max": "200000 100000"}
    )
    assert cgroup_quota(root) == 2.0


def test_hybrid_mounts_take_the_quota_from_v1(tmp_path):
    root = tree(
        tmp_path,
        cgroup("9:name=systemd:/\n4:memory:/box\n1:cpu,cpuacct:/box\n0::/", V1.format(root="/"), V2_HYBRID)
        | {
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/unified/cgroup.procs": "1",
        },
    )
    assert cgroup_quota(root) == 3.0


def test_this_host_offers_cores_that_the_process_may_use():
    host = usable()
    assert 1 <= len(host.cores) <= len(os.sched_getaffinity(0))
    assert {core.cpu for core in host.cores} <= os.sched_getaffinity(0)


def test_the_kernels_list_format():
    assert parse_cpus("0-2,8\n") == {0, 1, 2, 8}
    assert parse_cpus("") == frozenset()
