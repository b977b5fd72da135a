"""What a frozen teacher says about a batch, computed once: runs that see the same pairs read it from disk.

Batches are pure functions of seed and iteration, and the thermal size of a student does not touch what its teacher
sees. So the runs of an ablation, or of a sweep over thermal sizes, ask the same teacher the same questions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import click
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdrun.errors import MdrunError
from mdrun.files import PartialFile
from mdtrain.data.batches import Batch
from mdtrain.models.streams import Teacher

LARGEST = torch.finfo(torch.float16).max


class Taught(NamedTuple):
    """A teacher's answer, rounded to half precision, so that it is the same from a disk; float32 for the losses.

    Attributes:
        mask: (B, 1, h, w) combined attention mask (paper Eq. 3).
        fused: (B, C, h, w) fused map (paper Eq. 2).
    """

    mask: Tensor
    fused: Tensor


@torch.no_grad()
def ask(teacher: Teacher, batch: Batch) -> Taught:
    """The teacher up to its fusion point."""
    teacher.to(batch.visible.device)  # where the run is; does nothing from the second batch on
    _, fused, fusion = teacher.fuse(batch.visible, batch.thermal_full)
    if fusion is None:
        raise ValueError("a teacher without GAFF has no attention mask")
    return Taught(*(part.clamp(-LARGEST, LARGEST).half().float() for part in (fusion.teacher_mask(), fused)))


class TeacherCache:
    """Answers in a folder, one file a batch, named by what the teacher saw.

    A place that cannot be written costs speed, not the training: one warning, and the teacher is asked each time.
    """

    def __init__(self, folder: Path, teacher_sha256: str, precision: str) -> None:
        self._folder = folder
        self._salt = f"{teacher_sha256} {precision}".encode()
        self._writes = True

    def ask(self, teacher: Teacher, batch: Batch) -> Taught:
        """The answer from the folder, or the teacher's own, which is then kept."""
        path = self._folder / f"{self._name(batch)}.safetensors"
        if path.is_file():
            try:
                return Taught(**{k: v.to(batch.visible.device).float() for k, v in load_file(path).items()})
            except (SafetensorError, OSError, TypeError):
                pass  # damaged: ask again and replace it
        answer = Taught(*(part.contiguous() for part in ask(teacher, batch)))  # as it is read
        if self._writes:
            self._write(path, {name: part.half().cpu() for name, part in answer._asdict().items()})
        return answer

    def _name(self, batch: Batch) -> str:
        digest = hashlib.blake2b(self._salt, digest_size=16)
        for image in (batch.visible, batch.thermal_full):
            digest.update(image.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()

    def _write(self, path: Path, tensors: dict[str, Tensor]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = PartialFile(path)
            try:
                save_file(tensors, file.part)
                file.commit()
            finally:
                file.discard()
        except (OSError, SafetensorError, MdrunError) as error:
            self._writes = False
            click.echo(f"{self._folder}: the teacher's outputs are not kept any more ({error})", err=True)
