"""Several trained models as one: the mean of their probabilities at each pixel.

B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles", arXiv 1612.01474.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segkit.errors import RunFolderError
from segkit.inference.predictor import Predictor
from segkit.inference.sliding_window import Inferer


class Ensemble(Inferer):
    """Applies several networks, each with its own normalisation and precision; resize and windows are the first's."""

    def __init__(self, members: Sequence[Inferer]) -> None:
        first = members[0]
        networks = nn.ModuleList(member.model for member in members)
        super().__init__(networks, first.precision, first.classes, first.resize, first.crop, first.normalisation)
        self.members = members

    def logits(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """As a network's own, but the logarithms of the mean probabilities, float32 ``[B,classes,H,W]``."""
        total = torch.zeros(())
        for member in self.members:
            total = total.to(self.precision.device) + member.logits(images, size).softmax(1)
        return (total / len(self.members)).clamp_min(torch.finfo(torch.float32).tiny).log()


def averaged(predictors: Mapping[str, Predictor]) -> Predictor:
    """The first of several predictors, by the names of their runs, which averages all of them from then on.

    Raises:
        RunFolderError: they are of other classes, or see their images in another way.
    """
    (name, first), *others = predictors.items()
    for other_name, other in others:
        for what, mine, other_one in (
            ("the classes", first.classes, other.classes),
            ("ignore_index", first.ignore_index, other.ignore_index),
            ("the channels of their images", first.images.channels, other.images.channels),
            ("data.bands", first.images.bands, other.images.bands),
            ("the type of their images", first.normalisation.dtype, other.normalisation.dtype),
            ("data.resize", first.resize, other.resize),
        ):
            if mine != other_one:
                raise RunFolderError(
                    f"{other_name} and {name} cannot be averaged: {what} must be the same, and they are {other_one!r} "
                    f"and {mine!r}"
                )
    first.inferer = Ensemble([each.inferer for each in predictors.values()])
    first.model = first.inferer.model
    return first
