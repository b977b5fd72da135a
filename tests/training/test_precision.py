from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mdrun.backends import choice
from mdtrain.config import Config, load_config
from mdtrain.loop import Start
from mdtrain.precision import BFLOAT16, computed_precision, is_emulated
from mdtrain.recipes import baseline
from tests.training.test_recipes import tiny

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides here")


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its flags are what a test writes there."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(choice, "CPU_FLAGS", file)
    return file


@pytest.mark.parametrize("flag", BFLOAT16)
def test_bfloat16_where_the_processor_multiplies_it(flag: str, processor: Path) -> None:
    processor.write_text(f"processor : 0\nflags : fpu avx2 {flag} sse\n")
    assert computed_precision("auto", "cpu") == "bf16-mixed"
    assert not is_emulated("bf16-mixed", "cpu")
    assert Config(accelerator="cpu").computed_precision == "bf16-mixed"


@pytest.mark.parametrize("flags", ["fpu avx2 fma", "fpu avx512f avx512_vnni avx512bw", "asimd bf16 i8mm"])
def test_single_precision_elsewhere(flags: str, processor: Path) -> None:
    processor.write_text(f"flags : {flags}\n")
    assert computed_precision("auto", "cpu") == "32-true"
    assert is_emulated("bf16-mixed", "cpu")
    assert not is_emulated("auto", "cpu")
    assert not is_emulated("32-true", "cpu")
    assert Config(accelerator="cpu").computed_precision == "32-true"


@without_gpu
def test_a_system_that_tells_no_flags_computes_in_single_precision(processor: Path) -> None:
    assert not processor.exists()
    assert computed_precision("auto", "auto") == "32-true"


def test_what_the_configuration_says_stays(processor: Path) -> None:
    processor.write_text("flags : avx2\n")
    assert load_config(None, ("precision=bf16-mixed", "accelerator=cpu")).computed_precision == "bf16-mixed"
    processor.write_text("flags : amx_bf16\n")
    assert load_config(None, ("precision=32-true", "accelerator=cpu")).computed_precision == "32-true"


@pytest.mark.parametrize(("supported", "wanted"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_that_is_used_decides(
    supported: bool, wanted: str, processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return supported

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    processor.write_text("flags : avx2\n")
    assert computed_precision("auto", "auto") == computed_precision("auto", "cuda") == wanted
    assert computed_precision("auto", "cpu") == "32-true"
    assert asked == [False, False]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="on ARM nobody has measured it")
def test_the_choice_is_the_faster_one_on_this_processor() -> None:
    """A convolution forward and backward: what the flags promise holds, with a wide margin for a busy machine."""
    image, layer = torch.randn(2, 64, 32, 32), nn.Conv2d(64, 64, 3, padding=1)

    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(5):
        for mixed, taken in times.items():
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                layer(image).sum().backward()
            taken.append(time.perf_counter() - began)
    best_mixed, best_single = min(times[True]), min(times[False])
    chosen, other = (
        (best_mixed, best_single) if computed_precision("auto", "cpu") == "bf16-mixed" else (best_single, best_mixed)
    )
    assert chosen < 2 * other


def test_a_run_goes_on_in_another_precision_where_the_machine_has_another(processor: Path, tmp_path: Path) -> None:
    """`accelerator` may change, and with it what is fast."""
    arguments = "optimiser.iterations=2", "evaluate_every=2", "accelerator=cpu", "precision=auto"
    processor.write_text("flags : amx_bf16\n")
    begun = baseline.train(tiny(tmp_path, *arguments), tmp_path / "run", "mdtrain")
    assert json.loads((begun.folder / "result.json").read_text())["precision"] == "bf16-mixed"
    processor.write_text("flags : avx2\n")
    longer = tiny(tmp_path, *arguments, "optimiser.iterations=4")
    ended = baseline.train(longer, tmp_path / "run", "mdtrain", start=Start(resume=True))
    assert json.loads((ended.folder / "result.json").read_text())["precision"] == "32-true"
