"""What the doctor says about machines that are not this one: from files as Linux writes them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.doctor import libraries, packages
from mdrun.doctor.base import AREAS, Check, Status, exit_code, failed, ok, side_by_side
from mdrun.doctor.codecs import check_codecs
from mdrun.doctor.devices import LocalCamera, check_devices, list_cameras
from mdrun.doctor.gpu import check_gpu, kernel_driver
from mdrun.doctor.libraries import check_libraries
from mdrun.doctor.machine import check_disk, check_machine, read_limits
from mdrun.doctor.permissions import check_folder, check_permissions
from mdrun.doctor.processor import check_processor
from mdrun.errors import EngineError, OutputError, SourceNotFoundError, UsageError
from mdrun.sources.live import v4l2_api as api


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("machine", "lines", "status", "words"),
    [
        ("x86_64", "model name\t: Xeon\nflags\t\t: avx2 avx512f avx512_vnni amx_int8", "ok", "matrix units"),
        ("x86_64", "model name\t: i7\nflags\t\t: avx2 avx_vnni", "ok", "exact"),
        ("x86_64", "model name\t: EPYC\nflags\t\t: avx avx2", "warning", "saturate"),
        ("x86_64", "model name\t: old\nflags\t\t: sse4_2", "warning", "no AVX2"),
        ("aarch64", "Features\t: fp asimd asimddp i8mm", "ok", "matrix instructions"),
        ("aarch64", "Features\t: fp asimd asimddp\nModel\t\t: Raspberry Pi 5", "ok", "dot product"),
        ("aarch64", "Features\t: fp asimd", "warning", "no dot product"),
    ],
)
def test_processors(machine: str, lines: str, status: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(lines + "\n")
    check = check_processor("machine", 4, file, machine)
    assert check.status.value == status
    assert words in check.means


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    checks = check_machine(tmp_path, tmp_path)
    assert {check.status for check in checks} <= {Status.OK, Status.MISSING}
    assert exit_code(checks) == 0


CGROUPS: dict[str, tuple[dict[str, str], tuple[float | None, int | None]]] = {
    "v2, none": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, (None, None)),
    "v2": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/memory.max": "1000000000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
        },
        (1.5, 1_000_000_000),
    ),
    "v1": (
        {
            "proc/self/cgroup": "4:memory:/d\n1:cpu:/d\n",
            "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/d/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "400000000\n",
        },
        (0.5, 400_000_000),
    ),
    "v1, none": (
        {
            "proc/self/cgroup": "1:cpu:/d\n",
            "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/d/cpu.cfs_period_us": "100000\n",
        },
        (None, None),
    ),
    "damaged": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "what is this\n"}, (None, None)),
}


@pytest.mark.parametrize("name", list(CGROUPS))
def test_limits_of_containers(name: str, tmp_path: Path) -> None:
    files, wanted = CGROUPS[name]
    assert read_limits(write(tmp_path, files)) == wanted


def test_a_full_machine(tmp_path: Path) -> None:
    files = {
        "proc/loadavg": "99.50 1 1 1/2 3\n",
        "proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:     100000 kB\n",
        **CGROUPS["v1"][0],
    }
    by_name = {check.name: check for check in check_machine(tmp_path, write(tmp_path, files))}
    assert {by_name[name].status for name in ("load", "memory", "limits")} == {Status.WARNING}
    assert by_name["limits"].data == {"cores": 0.5, "bytes": 400_000_000}


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    check = check_disk("machine", tmp_path / "runs" / "gate")
    assert check.data["path"] == str(tmp_path)
    assert check.data["free_bytes"] > 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert check_folder("permissions", tmp_path / "run").status is Status.WARNING
    assert exit_code([check_folder("rig", tmp_path / "run", name="output")]) == 6


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = check_folder("rig", tmp_path / "file" / "run", name="gate: output")
    assert (check.status, check.code) == (Status.BROKEN, "MDR-600")
    assert "is no folder" in check.found


class FakeDevice(api.Device):
    """Answers as drivers do: capabilities, then formats until EINVAL."""

    def __init__(self, formats: list[str], can: int = api.CAP_VIDEO_CAPTURE | api.CAP_STREAMING) -> None:
        self.formats = formats
        self.can = can
        self.closed = False

    def ioctl(self, request: int, argument: Any) -> None:
        if request == api.QUERYCAP:
            argument.capabilities, argument.device_caps = self.can | api.CAP_DEVICE_CAPS, self.can
        elif request == api.ENUM_FMT:
            if argument.index >= len(self.formats):
                raise OSError(errno.EINVAL, "Invalid argument")
            argument.pixelformat = api.fourcc(self.formats[argument.index])
        else:
            raise AssertionError(request)

    def map(self, length: int, offset: int) -> api.Memory:
        raise AssertionError

    def wait(self, timeout_s: float) -> bool:
        raise AssertionError

    def wake(self) -> None:
        raise AssertionError

    def close(self) -> None:
        self.closed = True


def devices(tmp_path: Path) -> Path:
    write(tmp_path, {f"dev/video{number}": "" for number in (0, 1, 2, 10)})
    write(tmp_path, {f"sys/class/video4linux/video{n}/name": f"camera {n}\n" for n in (0, 1, 2, 10)})
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)
    (tmp_path / "dev/v4l/by-id/usb-PureThermal-video-index0").symlink_to("../../video2")
    return tmp_path


def test_local_cameras(tmp_path: Path) -> None:
    made: list[FakeDevice] = []

    def open_device(path: str) -> api.Device:
        if path.endswith("video10"):
            raise PermissionError(errno.EACCES, "Permission denied")
        metadata = path.endswith("video1")
        made.append(FakeDevice(["Y16 ", "GREY"], 0x00800000) if metadata else FakeDevice(["Y16 ", "GREY"]))
        return made[-1]

    found = list_cameras(devices(tmp_path), open_device)
    assert [camera.path for camera in found] == [f"/dev/video{number}" for number in (0, 1, 2, 10)]
    assert all(device.closed for device in made)
    by_name = {check.name: check for check in check_devices(found)}
    assert list(by_name) == ["/dev/video0", "/dev/video2", "/dev/video10"]  # the one for metadata is no camera
    assert (by_name["/dev/video0"].status, by_name["/dev/video2"].status) == (Status.WARNING, Status.OK)
    assert by_name["/dev/video2"].data["formats"] == ["Y16", "GREY"]
    assert "use /dev/v4l/by-id/usb-PureThermal-video-index0" in by_name["/dev/video2"].found
    (permission, _) = check_permissions(found, tmp_path, tmp_path)
    assert "/dev/video10" in permission.found
    assert permission.mend.startswith("sudo usermod -aG ")
    assert exit_code([*by_name.values(), permission]) == 0  # nobody asked for that camera


def test_no_local_camera(tmp_path: Path) -> None:
    (check,) = check_devices(list_cameras(tmp_path))
    assert check.status is Status.MISSING


def test_a_device_that_is_none(tmp_path: Path) -> None:
    """The real kernel: a plain file is opened, and refuses the first request."""
    (camera,) = list_cameras(write(tmp_path, {"dev/video0": ""}))
    assert camera.problem
    assert check_devices([camera])[0].status is Status.BROKEN


ORT = {"version": "1.32.0", "providers": ["CPUExecutionProvider"], "engines": []}
NONE = {"missing": "not installed"}


def facts(**found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict.fromkeys(libraries.NAMES, NONE) | found


def test_without_a_library_no_run_is_possible() -> None:
    checks = check_libraries(facts())
    assert exit_code(checks) == 3
    assert checks[-1].mend == 'pip install "mdrun[cpu]"'
    assert exit_code(check_libraries(facts(onnxruntime=ORT))) == 0


def test_both_packages_of_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "is_installed", lambda package: True)
    check = check_libraries(facts(onnxruntime=ORT))[0]
    assert (check.status, check.code) == (Status.BROKEN, "MDR-310")
    assert check.mend == 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "mdrun[cpu]"'


def test_an_engine_that_does_not_run() -> None:
    bad = ORT | {
        "engines": [
            {"name": "slim", "on": "onnxruntime", "broken": "slim.onnx: ONNX Runtime refuses it", "code": "MDR-300"}
        ]
    }
    assert exit_code(check_libraries(facts(onnxruntime=bad))) == 3
    run = {"name": "slim", "on": "onnxruntime-cuda", "infer_ms": 40.0, "ready_ms": 300.0, "runs": 10}
    check = check_libraries(facts(onnxruntime=ORT | {"engines": [run]}))[-1]
    assert check.name == "slim on ONNX Runtime, CUDA"
    assert "40.0 ms a pair (median of 10), 25 pairs/s" in check.found


def test_a_broken_library_that_another_can_stand_in_for() -> None:
    checks = check_libraries(facts(onnxruntime=ORT, openvino={"broken": "killed by SIGILL"}))
    assert {check.name: check.status for check in checks}["OpenVINO"] is Status.BROKEN
    assert exit_code(checks) == 0


def test_graphics(tmp_path: Path) -> None:
    gpu = {"cuda": "12.6", "gpus": [{"name": "Orin", "compute_capability": "8.7"}]}
    root = write(
        tmp_path,
        {
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  x\n",
        },
    )
    cuda, jetson, _ = check_gpu(gpu, root)
    assert cuda.found == "Orin (compute capability 8.7); driver 540.4.0, CUDA up to 12.6"
    assert jetson.found == "L4T 36.4.3, NVIDIA Jetson Orin Nano Developer Kit"


def test_driver_versions(tmp_path: Path) -> None:
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 11.4.0\n"
    assert kernel_driver(write(tmp_path, {"proc/driver/nvidia/version": line})) == "535.104.05"
    assert kernel_driver(tmp_path / "nowhere") == ""


def test_a_gpu_without_a_driver(tmp_path: Path) -> None:
    card = {
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    }
    assert check_gpu(NONE, tmp_path)[0].status is Status.MISSING
    root = write(tmp_path, card)
    assert (check_gpu(NONE, root)[0].status, check_gpu(NONE, root)[0].mend) == (
        Status.WARNING,
        "sudo ubuntu-drivers install",
    )
    assert check_gpu(NONE, write(root, {".dockerenv": ""}))[0].mend == "docker run --gpus all …"
    assert check_gpu({"broken": "killed by SIGSEGV"}, root)[0].status is Status.BROKEN


def test_codecs_that_are_missing() -> None:
    whole = {
        "version": "18.1.0", "ffmpeg": "", "libraries": {"libavcodec": "62"},
        "decoders": ["h264", "hevc", "mjpeg", "ffv1"], "encoders": ["libx264", "ffv1"],
    }  # fmt: skip
    statuses = [check.status for check in check_codecs({"codecs": whole, "gstreamer": NONE})]
    assert statuses == [Status.OK, Status.OK, Status.OK, Status.MISSING]
    poor = whole | {"decoders": ["h264"], "encoders": ["mpeg4"]}
    decoders, encoders = check_codecs({"codecs": poor, "gstreamer": NONE})[1:3]
    assert decoders.found == "no hevc, mjpeg, ffv1"
    assert (decoders.status, encoders.status) == (Status.WARNING, Status.WARNING)
    assert exit_code(check_codecs({"codecs": NONE, "gstreamer": {"version": "1.22.0", "elements": []}})) == 4


def test_opencv_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda package: "5.0" if "contrib" not in package else "")
    check = packages.check_packages()[0]
    assert check.status is Status.WARNING
    assert "pip uninstall -y opencv-python opencv-python-headless" in check.mend


def test_a_missing_extra_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda package: "")
    mends = {check.mend for check in packages.check_packages() if check.status is Status.MISSING}
    assert mends == {'pip install "mdrun[web]"', 'pip install "mdrun[mqtt]"'}


def test_the_exit_code_is_that_of_the_first_that_was_asked_for() -> None:
    unasked = Check("GPU", "CUDA", Status.BROKEN, "dead")
    checks = [ok("machine", "Python", "3"), unasked]
    assert exit_code(checks) == 0
    checks += [failed("sources", "cam0", SourceNotFoundError("gone")), failed("rig", "x", OutputError("full"))]
    assert exit_code(checks) == 4
    assert exit_code([failed("rig", "x", UsageError("odd"))]) == 2
    assert exit_code([failed("rig", "x", EngineError("odd"))]) == 3


def test_no_credentials_in_a_check() -> None:
    check = failed("sources", "cam", SourceNotFoundError("rtsp://admin:hunter2@10.0.0.5/a?password=hunter2: gone"))
    assert "hunter2" not in check.found


@given(st.text())
def test_a_check_is_one_printable_line(text: str) -> None:
    assert all(char.isprintable() for char in ok(AREAS[0], "x", text).found)


def test_tasks_side_by_side_keep_their_order_and_raise() -> None:
    assert side_by_side([lambda: 1, lambda: 2]) == [1, 2]
    assert side_by_side([]) == []
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: 1, lambda: 1 // 0])


def test_a_camera_that_may_be_opened_needs_no_mending(tmp_path: Path) -> None:
    camera = LocalCamera("/dev/video0", "cam", "", ("Y16",), video=True)
    assert check_permissions([camera], tmp_path)[0].status is Status.OK
