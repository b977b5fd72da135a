"""What a plan is built for, as the user asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mdrun.errors import UsageError

TARGETS = ("tensorrt", "rtx")
HARDWARE_LEVELS = ("ampere-plus", "same-compute-capability")
LEAST_SHARE = 0.5
MOST_WORKSPACE = 1 << 20  # MiB: more than any GPU has; sums of far larger ones overflow in the builder
MOST_BATCH = (1 << 31) - 1  # TensorRT 10.3 holds sizes of tensors in 32 bits


@dataclass(frozen=True)
class PlanOptions:
    """The options of `mdexport plan`.

    Attributes:
        target: `tensorrt` or `rtx`.
        compute_capabilities: of the GPUs an engine of TensorRT for RTX is for; empty: Ampere and newer.
        workspace_mib: most scratch memory of a layer.
        version_compatible: newer TensorRT versions may run it.
        hardware_compatible: one of HARDWARE_LEVELS; None for this GPU only.
        allow_host_code: put TensorRT's lean runtime, which is code, into a version-compatible plan.
        max_batch: largest batch, where the graph's batch is dynamic.
        precision: what the ONNX must be in; None takes what its manifest says.
        least_share: of convolution and matrix layers that must be in that precision.
        timing_cache: file of measured kernel times, read and written.
    """

    target: str = "tensorrt"
    compute_capabilities: tuple[str, ...] = ()
    workspace_mib: int | None = None
    version_compatible: bool = False
    hardware_compatible: str | None = None
    allow_host_code: bool = False
    max_batch: int | None = None
    precision: str | None = None
    least_share: float = LEAST_SHARE
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what the target does not have, rather than ignore it.

        Raises:
            UsageError: naming the option and why.
        """
        for option, given in (
            ("--version-compatible", self.version_compatible),
            ("--hardware-compatible", self.hardware_compatible),
            ("--timing-cache", self.timing_cache),
            ("--allow-host-code", self.allow_host_code),
        ):
            if given and self.target == "rtx":
                raise UsageError(
                    f"got {option} with --target rtx, which has no such thing: its engines run on several GPUs anyway, "
                    "are bound to one release, and are timed on the GPU that runs them; leave it out"
                )
        if self.allow_host_code and not self.version_compatible:
            raise UsageError("got --allow-host-code without --version-compatible, whose plans alone hold code; add it")
        if self.compute_capabilities and self.target == "tensorrt":
            raise UsageError(
                "got --compute-capability with --target tensorrt, whose plans are for the GPU that builds them; "
                "build on that GPU, or take --target rtx"
            )

    def asked(self) -> dict[str, str]:
        """Every option that shapes the engine and was asked for, by its name on the command line."""
        return dict(self._asked())

    def arguments(self) -> list[str]:
        """The same as words of a command line."""
        words = [] if self.target == "tensorrt" else ["--target", self.target]
        for name, text in self._asked():
            for value in text.split():
                words += [f"--{name}"] if value == "yes" else [f"--{name}", value]
        return words

    def _asked(self) -> Iterator[tuple[str, str]]:
        if self.compute_capabilities:
            yield "compute-capability", " ".join(self.compute_capabilities)
        if self.workspace_mib is not None:
            yield "workspace", str(self.workspace_mib)
        if self.version_compatible:
            yield "version-compatible", "yes"
        if self.hardware_compatible is not None:
            yield "hardware-compatible", self.hardware_compatible
        if self.allow_host_code:
            yield "allow-host-code", "yes"
        if self.max_batch is not None:
            yield "max-batch", str(self.max_batch)
        if self.least_share != LEAST_SHARE:
            yield "least-share", f"{self.least_share:g}"
