"""What a frozen teacher says about a batch, computed once: runs that see the same pairs read it from disk.

Batches are pure functions of seed and iteration, and the thermal size of a student does not touch what its teacher
sees. So the runs of an ablation, or of a sweep over thermal sizes, ask the same teacher the same questions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdrun.errors import OutputError
from mdrun.files import PartialFile
from mdtrain.data.batches import Batch
from mdtrain.models.streams import Teacher

LARGEST = torch.finfo(torch.float16).max


class Taught(NamedTuple):
    """A teacher's answer, in full precision for the losses.

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
    return Taught(fusion.teacher_mask().float(), fused.float())


class TeacherCache:
    """Answers in a folder, one file a batch, named by what the teacher saw.

    Values are kept in half precision; the run that writes an answer uses the rounded one as well, so it and the runs
    that read it learn from the same numbers.
    """

    def __init__(self, folder: Path, teacher_sha256: str, precision: str) -> None:
        self._folder = folder
        self._salt = f"{teacher_sha256} {precision}".encode()

    def ask(self, teacher: Teacher, batch: Batch) -> Taught:
        """The answer from the folder, or the teacher's own, which is then kept.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._folder / f"{self._name(batch)}.safetensors"
        if path.is_file():
            try:
                return Taught(**{k: v.to(batch.visible.device).float() for k, v in load_file(path).items()})
            except (SafetensorError, OSError, TypeError):
                pass  # damaged: ask again and replace it
        halves = {
            name: part.clamp(-LARGEST, LARGEST).half().contiguous()
            for name, part in ask(teacher, batch)._asdict().items()
        }
        self._write(path, halves)
        return Taught(**{name: part.float() for name, part in halves.items()})

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
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"{self._folder}: the teacher's outputs cannot be kept there ({error}); "
                "free the disk, or leave distill.cache out"
            ) from error
