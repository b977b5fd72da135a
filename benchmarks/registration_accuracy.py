"""How well two cameras are brought together: registration, drift and time offset, on real pairs and the street.

python -m benchmarks.registration_accuracy --output benchmarks/results/registration_accuracy.json

Alignment was developed on every other pair of each set (`seen`); the rest (`unseen`) was looked at once, here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from mdrun.calibrate.scene import align_scene
from mdrun.calibrate.structure import scaling, transform
from mdrun.calibrate.time import estimate_offset
from mdrun.command import run_command
from mdrun.errors import CalibrationError
from mdrun.registration.drift import MIN_CONFIDENCE, Verdict, measure_shift

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]
Row = dict[str, Any]

LIMIT_PX = 3.0  # of the drift monitor, its default
THERMAL_WIDTH = 160  # px, of the drift readings
BUMP_PX = (4.0, 3.0)  # 5 px
STREETS = ((3, "night"), (1, "day"), (7, "night"), (4, "dusk"), (11, "day"), (5, "night"))
NS = 1_000_000_000


class Case(NamedTuple):
    """One pair with known places: `thermal_points` (N, 2) of the thermal image lie at `visible_points`."""

    name: str
    visible: Image
    thermal: Image
    thermal_points: Matrix
    visible_points: Matrix
    pixel: float  # visible pixels of one thermal pixel


def _grey(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise click.ClickException(f"cannot read {path}")
    return np.asarray(image, np.uint8)


def _colour(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise click.ClickException(f"cannot read {path}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _small(image: Image, width: int) -> Image:
    size = (width, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _landmarks(data: Path) -> Iterator[Case]:
    folder = data / "landmarks"
    for name, entry in json.loads((folder / "landmarks.json").read_text()).items():
        here, there = (np.array(entry[f"landmarks_{which}"]) - 1 for which in ("moving", "fixed"))  # of MATLAB: from 1
        yield Case(name, _colour(folder / entry["file_a"]), _grey(folder / entry["file_b"]), here, there, 1.0)


def _roadscene(data: Path) -> Iterator[Case]:
    folder = data / "roadscene"
    for name, entry in sorted(json.loads((folder / "annotations.json").read_text()).items())[::4]:
        if not (folder / "ir_full" / f"{name}.jpg").exists():
            continue
        visible = _colour(folder / "vi_crop_hr" / f"{name}.jpg")
        height, width = visible.shape[:2]
        crop = entry["ir_crop"]
        truth = scaling(width / crop[0], height / crop[1]) @ np.array(entry["H_full_to_crop"])
        grid = np.array([(x, y) for x in range(0, 640, 8) for y in range(0, 512, 8)], np.float64)
        there = transform(truth, grid)
        inside = ((there >= 0) & (there < (width, height))).all(axis=1)
        pixel = float(np.sqrt(abs(np.linalg.det(truth[:2, :2]))))
        yield Case(name, visible, _grey(folder / "ir_full" / f"{name}.jpg"), grid[inside], there[inside], pixel)


def _msrs(data: Path, width: int, image: str = "ir_warp") -> Iterator[Case]:
    folder = data / "misregistered_msrs"
    for path in sorted((folder / "flow_div4").glob("*.npz")):
        grid = np.load(path)["grid"].astype(np.float64)  # [-1, 1]: the middle of the first and of the last pixel
        there = ((grid + 1) / 2 * (639, 479)).reshape(-1, 2)
        here = np.array([(4.0 * x, 4.0 * y) for y in range(grid.shape[0]) for x in range(grid.shape[1])])
        inside = ((there >= 0) & (there < (640, 480))).all(axis=1)
        here = transform(scaling(width / 640), here[inside])
        thermal = _small(_grey(folder / image / f"{path.stem}.png"), width)
        yield Case(path.stem, _colour(folder / "vi" / f"{path.stem}.jpg"), thermal, here, there[inside], 640 / width)


def _error(homography: Matrix, case: Case) -> float:
    """Median distance, thermal pixels."""
    off = transform(homography, case.thermal_points) - case.visible_points
    return float(np.median(np.hypot(*off.T))) / case.pixel


def _align(cases: Iterator[Case], measure: Callable[[Case, Matrix], Row]) -> list[Row]:
    rows = []
    for index, case in enumerate(cases):
        row: Row = {"name": case.name, "half": "unseen" if index % 2 else "seen"}
        began = time.process_time()
        try:
            found = align_scene([(case.visible, case.thermal)])
        except CalibrationError as error:
            rows.append(row | {"refused": str(error)})
            continue
        row |= {"cpu_s": time.process_time() - began, "score": found.score, "residual_px": found.residual_px}
        rows.append(row | measure(case, found.homography))
        print(rows[-1], flush=True)
    return rows


def _plain(case: Case, homography: Matrix) -> Row:
    return {"error_px": _error(homography, case)}


def _deformed(data: Path, width: int) -> Callable[[Case, Matrix], Row]:
    """Errors against the flow, and against where the same method puts the thermal image before it was deformed."""
    straight = {case.name: case for case in _msrs(data, width, "ir")}

    def measure(case: Case, homography: Matrix) -> Row:
        best = cv2.findHomography(case.thermal_points, case.visible_points, 0)[0]
        row: Row = {"error_px": _error(homography, case), "floor_px": _error(np.asarray(best, np.float64), case)}
        try:
            before = align_scene([(case.visible, straight[case.name].thermal)]).homography
        except CalibrationError:
            return row
        inside = transform(scaling(width / 640), case.visible_points)
        moved = case._replace(visible_points=transform(before, inside))
        return row | {"deformation_error_px": _error(homography, moved)}

    return measure


def _summary(rows: list[Row], key: str) -> Row:
    found: Row = {}
    for half in ("seen", "unseen", "all"):
        values = [row[key] for row in rows if key in row and half in (row["half"], "all")]
        found[half] = {"median": float(np.median(values)), "mean": float(np.mean(values)), "n": len(values)}
    return found


def _own_offset_of_msrs(data: Path) -> Row:
    """Where MSRS itself puts the thermal image, on pairs that were not deformed; two halves that share no image."""
    folder = data / "msrs"
    taken = {case.name for case in _msrs(data, 160)}
    names = [path.stem for path in sorted((folder / "vi").glob("*.jpg")) if path.stem not in taken]
    corners = np.array([[100.0, 100], [540, 100], [320, 240], [100, 380], [540, 380]])
    grid = np.array([(x, y) for x in range(0, 640, 16) for y in range(0, 480, 16)], np.float64)
    found: Row = {"places": corners.tolist()}
    for half in (0, 1):
        chosen = names[half::8]
        pairs = [(_colour(folder / "vi" / f"{n}.jpg"), _grey(folder / "ir" / f"{n}.jpg")) for n in chosen]
        result = align_scene(pairs, initial=np.eye(3))
        found[f"half_{half}"] = {
            "pairs": len(pairs),
            "off_px": (transform(result.homography, corners) - corners).round(2).tolist(),
            "median_off_px": float(np.median(np.hypot(*(transform(result.homography, grid) - grid).T))),
            "residual_px": result.residual_px,
        }
    return found


def _streams(data: Path) -> Iterator[tuple[str, Path, Path]]:
    for path in sorted((data / "msrs" / "vi").glob("*.jpg")):
        yield f"msrs {'night' if path.stem.endswith('N') else 'day'}", path, data / "msrs" / "ir" / path.name
    for clip in sorted(path for path in (data / "stream_m3svd").iterdir() if path.is_dir()):
        for path in sorted((clip / "vi").glob("*.jpg")):
            yield "m3svd", path, clip / "ir" / path.name
    for path in sorted((data / "stream_vtuav" / "visible").glob("*.jpg")):
        yield "vtuav", path, next((data / "stream_vtuav" / "thermal").glob(f"{path.stem}.*"))
    for path in sorted((data / "llvip" / "vi").glob("*")):
        yield "llvip", path, data / "llvip" / "ir" / path.name


def _drift(data: Path) -> list[Row]:
    readings: dict[str, list[tuple[float, float, float, float, float]]] = {}
    move = np.array([[1, 0, BUMP_PX[0]], [0, 1, BUMP_PX[1]]])
    for name, visible_path, thermal_path in _streams(data):
        visible, thermal = _colour(visible_path), _small(_grey(thermal_path), THERMAL_WIDTH)
        size = (thermal.shape[1], thermal.shape[0])
        bumped = np.asarray(cv2.warpAffine(thermal, move, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
        began = time.thread_time()
        still = measure_shift(visible, thermal)
        spent = time.thread_time() - began
        moved = measure_shift(visible, bumped)
        reading = (THERMAL_WIDTH * still[0], still[1], THERMAL_WIDTH * moved[0], moved[1], spent)
        readings.setdefault(name, []).append(reading)
    return [_drift_row(name, np.array(rows)) for name, rows in readings.items()]


def _drift_row(name: str, rows: NDArray[np.float64]) -> Row:
    known, known_moved = rows[:, 1] >= MIN_CONFIDENCE, rows[:, 3] >= MIN_CONFIDENCE
    row: Row = {
        "set": name,
        "pairs": len(rows),
        "known": float(known.mean()),
        "still_px": float(np.median(rows[known, 0])),
        "still_beyond_limit": int((rows[known, 0] > LIMIT_PX).sum()),
        "bumped_px": float(np.median(rows[known_moved, 2])),
        "bumped_within_limit": int((rows[known_moved, 2] <= LIMIT_PX).sum()),
        "cpu_ms": 1000 * float(np.median(rows[:, 4])),
    }
    for key, column in (("alarms_still", 0), ("alarms_bumped", 2)):
        verdict = Verdict(LIMIT_PX)
        alarms = [verdict.judge(r[column], r[column + 1], at).alarm for at, r in enumerate(rows)]
        row[key] = float(np.mean(alarms))
    print(row, flush=True)
    return row


def _time_offsets(data: Path) -> list[Row]:
    """20 s of visible at 30 Hz and thermal at 9 Hz: streets, and real pairs that a shaking camera pans over."""
    from mdrun.street import Street, StreetConfig

    at_v, at_t = np.arange(600) / 30, 0.017 + np.arange(180) / 9
    rows = []
    for seed, light in STREETS:
        street = Street(StreetConfig(seed=seed, time=light, width=160, height=128))
        visible = [np.asarray(cv2.cvtColor(street.visible(float(t)), cv2.COLOR_RGB2GRAY), np.uint8) for t in at_v]
        rows.append(_time_row(f"street {seed} {light}", at_v, visible, at_t, [street.thermal(float(t)) for t in at_t]))
    for seed, clip in enumerate(sorted(path for path in (data / "stream_m3svd").iterdir() if path.is_dir())):
        both = [_grey(clip / which / "0005.jpg") for which in ("vi", "ir")]
        films = [_panned(image, times, seed) for image, times in zip(both, (at_v, at_t), strict=True)]
        rows.append(_time_row(f"panned {clip.name}", at_v, films[0], at_t, films[1]))
    return rows


def _panned(image: Image, times: Matrix, seed: int) -> list[Image]:
    """What a 160x120 camera sees that moves before a picture of 640x480, with noise."""
    random = np.random.default_rng(seed)
    rate, phase, size = random.uniform(0.1, 0.9, (2, 5)), random.uniform(0, 6.3, (2, 5)), random.uniform(2, 10, (2, 5))
    film = []
    for time_s in times:
        x, y = (size * np.sin(2 * np.pi * rate * time_s + phase)).sum(axis=1)
        seen = cv2.warpAffine(image, np.array([[1, 0, x - 80], [0, 1, y - 60]]), (480, 360))
        small = cv2.resize(seen, (160, 120), interpolation=cv2.INTER_AREA)
        film.append(np.clip(small + random.normal(0, 1.5, small.shape), 0, 255).astype(np.uint8))
    return film


def _time_row(name: str, at_v: Matrix, visible: list[Image], at_t: Matrix, thermal: list[Image]) -> Row:
    row: Row = {"film": name}
    for label, injected, aside in (("0 ms", 0.0, 0.0), ("-140 ms", -140.0, 0.0), ("0 ms, 3 px aside", 0.0, 3.0)):
        move = np.array([[1, 0, aside], [0, 1, 0]])
        size = (thermal[0].shape[1], thermal[0].shape[0])
        seen = [cv2.warpAffine(image, move, size, borderMode=cv2.BORDER_REPLICATE) for image in thermal]
        stamps = [(times * NS).astype(int).tolist() for times in (at_v, at_t - injected / 1000)]
        try:
            found = estimate_offset(zip(stamps[0], visible, strict=True), zip(stamps[1], seen, strict=True))
        except CalibrationError as error:
            row[label] = {"refused": str(error)}
            continue
        row[label] = {"error_ms": found.offset_ms - injected, "spread_ms": found.spread_ms}
    print(row, flush=True)
    return row


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="../shared/data/rgbt", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default="benchmarks/results/registration_accuracy.json")
@click.option("--only", type=click.Choice(["msrs", "own", "landmarks", "roadscene", "drift", "time"]), multiple=True)
def measure(data: Path, output: Path, only: tuple[str, ...]) -> None:
    """Measure everything, or only some parts; parts that are not measured keep what the file has."""
    cv2.setNumThreads(1)
    report: Row = json.loads(output.read_text()) if output.exists() else {}
    report["machine"] = describe_machine() | {"opencv": cv2.__version__}

    def wanted(part: str) -> bool:
        return not only or part in only

    if wanted("msrs"):
        for width in (640, 160):
            rows = _align(_msrs(data, width), _deformed(data, width))
            keys = ("floor_px", "error_px", "deformation_error_px")
            report[f"misregistered_msrs_{width}"] = {"summary": {k: _summary(rows, k) for k in keys}, "rows": rows}
    if wanted("own"):
        report["msrs_own_offset"] = _own_offset_of_msrs(data)
    for part, cases in (("landmarks", _landmarks), ("roadscene", _roadscene)):
        if wanted(part):
            rows = _align(cases(data), _plain)
            report[part] = {"summary": _summary(rows, "error_px"), "rows": rows}
    if wanted("drift"):
        report["drift"] = _drift(data)
    if wanted("time"):
        report["time_offset"] = _time_offsets(data)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    click.echo(json.dumps({k: v.get("summary", v) if isinstance(v, dict) else v for k, v in report.items()}, indent=1))


if __name__ == "__main__":
    sys.exit(run_command(measure, "registration_accuracy"))
