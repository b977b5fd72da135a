"""Modality Distillation: attention transfer and semantic transfer.

Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022, Eq. 3 and 4.
"""

from __future__ import annotations

from torch import Tensor

from mdtrain.losses.attention import dice_loss


def attention_transfer(student_logits: Tensor, teacher_mask: Tensor) -> Tensor:
    """Dice loss of the student's mask against the teacher's, both (B, 1, H, W) (Eq. 3)."""
    return dice_loss(student_logits.sigmoid(), teacher_mask.detach())


def mse_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Plain mean squared error of two (B, C, H, W) maps: `S(M)` of Tables 7 and 8."""
    return (student - teacher.detach()).pow(2).mean()


def focal_mse_transfer(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Focal mean square error of two (B, C, H, W) maps (Eq. 4), mean over the batch.

    Per place, D = sum over channels of (student - teacher)^2; the loss is sum over places of softmax(D / T) D / C, so
    places that are hard to imitate count most. The softmax weight carries no gradient: it says where to look.

    Args:
        student: (B, C, H, W).
        teacher: the same; carries no gradient.
        temperature: T. 1 is Eq. 4 to the letter: D grows with the channels, so nearly all weight falls on the one
            worst place of an image. C makes it the softmax of the mean over channels, which weighs areas.
    """
    distance = (student - teacher.detach()).pow(2).sum(1).flatten(1)
    weight = (distance.detach() / temperature).softmax(1)
    return (weight * distance).sum(1).mean() / student.shape[1]
