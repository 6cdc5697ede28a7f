"""Ensembles: average several trained models (B. Lakshminarayanan et al., "Deep Ensembles", arXiv 1612.01474)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segkit.errors import RunFolderError, first_few
from segkit.inference.predictor import Predictor
from segkit.inference.sliding_window import TINY, Inferer


class Ensemble(Inferer):
    """Averages the probabilities of several networks, each with its own normalisation, precision and temperature.

    Sliding windows have the size that the first network uses.
    """

    def __init__(self, members: Sequence[Inferer]) -> None:
        first, networks = members[0], nn.ModuleList(member.model for member in members)
        super().__init__(networks, first.precision, first.classes, first.resize, first.crop, first.normalisation)
        self.members = members

    def logits(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Return the logarithms of the mean probabilities in place of logits, float32 ``[B,classes,H,W]``."""
        logits = (member.logits(images, size).float() / member.temperature for member in self.members)
        mean = torch.as_tensor(sum(each.softmax(1) for each in logits)) / len(self.members)
        return mean.clamp_min(TINY).log()


def averaged(predictors: Mapping[str, Predictor]) -> Predictor:
    """Turn the first of several predictors, given by the names of their runs, into their ensemble; return it.

    Warns if only some of the runs are calibrated (have a temperature other than 1).

    Raises:
        RunFolderError: the runs differ in their classes or in how they read their images.
    """
    (name, first), *others = predictors.items()
    for run, each in others:
        for what, value, wanted in (
            ("classes", each.classes, first.classes),
            ("ignore_index", each.ignore_index, first.ignore_index),
            ("data.resize", each.resize, first.resize),
            ("channels", each.images.channels, first.images.channels),
            ("data.bands", each.images.bands, first.images.bands),
            ("data.no_data", each.images.no_data, first.images.no_data),
            ("the image dtype", each.normalisation.dtype, first.normalisation.dtype),
        ):
            if value != wanted:
                problem = f"{what} must be the same, but they are {value!r} and {wanted!r}"
                raise RunFolderError(f"{run} and {name} cannot be averaged: {problem}")
    plain = [run for run, each in predictors.items() if each.inferer.temperature == 1]
    if 0 < len(plain) < len(predictors):
        warnings.warn(f"these runs are not calibrated, but the others are: {first_few(plain)}", stacklevel=2)
    first.inferer = Ensemble([each.inferer for each in predictors.values()])
    first.model = first.inferer.model
    return first
