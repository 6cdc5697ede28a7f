"""An export from the beginning to the end: write, run what was written, compare, and only then give it its name."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

import segkit
from segkit.data.read import Pixels
from segkit.errors import ConfigError, ModelError
from segkit.inference.predictor import Predictor
from segkit.loading import load
from segkit_export.card import card
from segkit_export.comparison import COUNT, Agreement, compare, fitting, generated_images, images_of_run
from segkit_export.formats import (
    Runner,
    metadata_of,
    run_onnx,
    run_program,
    run_weights,
    write_onnx,
    write_program,
    write_weights,
)
from segkit_export.graph import Deployed
from segkit_export.origin import Origin
from segkit_export.outcome import Exported
from segkit_export.place import CARD, MARK, Place, filled, find_place, require_packages
from segkit_export.tracing import ANY_SIZE, FREEDOMS, trace


def export(
    predictor: Predictor,
    *,
    to: str,
    output: str | Path,
    logits: bool = False,
    size: tuple[int, int] | None = None,
    images: Sequence[Pixels] = (),
    run: str | Path | None = None,
) -> Exported:
    """Write a model for use elsewhere, and compare what was written with PyTorch.

    ``export(segkit.load("runs/mine", model=net), to="onnx", output="mine", run="runs/mine")`` is for a model that was
    given to :func:`segkit.fit` as an object; the command does the rest.

    Args:
        predictor: the model, its classes and what it resizes images to; it stays as it is.
        to: ``onnx``, ``torch-export`` or ``safetensors``.
        output: a folder, or a ``.onnx`` or ``.pt2`` file.
        logits: the scores of all classes instead of labels.
        size: (height, width) where the graph is to take one size; left out: any, where the model allows it.
        images: RGB ``[H,W,3]``, to compare with; left out: those of the run's split val, or generated ones.
        run: its folder, for the card's data and scores.

    Raises:
        ConfigError: no such format, or a place that cannot be written or holds something else.
        PluginError: ``onnx`` without its packages.
        ModelError: the model cannot be exported, or fewer than 99.9 % of the pixels agree; nothing is written then.
    """
    place = find_place(to, Path(output))
    require_packages(to)
    origin = Origin.of_folder(Path(run) if run is not None else None, predictor)
    return _Export(predictor, place, origin, logits, size, images).done()


def export_run(run: Path, place: Place, *, logits: bool, size: tuple[int, int] | None) -> Exported:
    """What the command does: as :func:`export`, of a run folder or one of its files.

    Raises:
        SegkitError: see there and :func:`segkit.load`; its model was given as an object.
    """
    folder = run if run.is_dir() else run.parent
    if (folder / "config.json").is_file() and Origin.config_of(folder).get("model") is None:
        raise ConfigError(
            f"{folder} was trained on a model that was given as an object, which no command can build; in Python: "
            f"segkit_export.export(segkit.load({str(run)!r}, model=...), to={place.to!r}, output=..., "
            f"run={str(folder)!r})"
        )
    predictor = load(run, device="cpu", precision="fp32")
    best = run.is_dir() or run.name != "last.pt"  # whose scores result.json has
    return _Export(predictor, place, Origin.of_folder(folder, predictor, scores=best), logits, size, ()).done()


@dataclass
class _Export:
    predictor: Predictor
    place: Place
    origin: Origin
    logits: bool
    size: tuple[int, int] | None
    images: Sequence[Pixels]

    def done(self) -> Exported:
        """All of it."""
        own = self.predictor
        self.reference = Predictor(
            deepcopy(own.model).requires_grad_(False),  # whoever runs the graph wants no gradients
            classes=own.classes,
            palette=own.palette,
            ignore_index=own.ignore_index,
            device="cpu",
            precision="fp32",
            resize=own.resize,
            normalisation=own.normalisation,
        )
        self.reference.model.to(memory_format=torch.contiguous_format)  # channels_last is a question of sizes
        described = {"segkit": segkit.__version__, "to": self.place.to, **self.origin.model_facts()}
        self.metadata = metadata_of(own, MARK, described)
        with filled(self.place) as folder, tqdm(total=3, unit="step", leave=False, disable=None) as self.bar:
            found = self._weights(folder) if self.place.to == "safetensors" else self._graph(folder)
            (folder / CARD).write_text(card(found, self.origin, own), "utf-8")
        return found

    def _step(self, what: str) -> None:
        self.bar.set_description(what)
        self.bar.update()

    def _compared(self, runner: Runner, least: int, size: tuple[int, int] | None, several: bool) -> Agreement:
        """The agreement on the given images, those of the run, or generated ones."""
        self._step("comparing with PyTorch")
        given, source = self._chosen(least)
        return compare(runner, self.reference, fitting(given, least, size), source, several=several)

    def _chosen(self, least: int) -> tuple[Sequence[Pixels], str]:
        if self.images:
            return self.images, "given images"
        if not hasattr(self, "of_run"):
            self.of_run = images_of_run(self.origin.record)
        if self.of_run:
            return self.of_run[:COUNT], "images of val"
        return generated_images(least, self.predictor.normalisation), "generated images"

    def _weights(self, folder: Path) -> Exported:
        self._step("writing")
        path = folder / self.place.names[0]
        write_weights(self.reference, path, self.origin.config_to_write(), self.metadata)
        model = deepcopy(self.reference.model) if self.origin.model is None else None
        agreement = self._compared(run_weights(path, model), 2, None, several=False)
        return Exported(self.place, agreement, bytes=path.stat().st_size)

    def _graph(self, folder: Path) -> Exported:
        """With as much freedom as torch can follow: any size, else any batch, else neither."""
        reasons: list[ModelError] = []
        for free in FREEDOMS if self.size is None else FREEDOMS[1:]:
            try:
                return self._attempt(folder / self.place.names[0], free, reasons)
            except ModelError as error:
                reasons.append(error)
        advice = "" if "--to safetensors" in str(reasons[-1]) else "; --to safetensors writes the weights alone"
        raise ModelError(f"{reasons[-1]}{advice}") from reasons[-1]

    def _attempt(self, path: Path, free: tuple[str, ...], reasons: Sequence[ModelError]) -> Exported:
        self.bar.reset()
        answer = "logits" if self.logits else "labels"
        any_size = free == ANY_SIZE
        own = self.reference
        module = Deployed(own.model, own.resize, own.normalisation, logits=self.logits, any_size=any_size).eval()
        size = None if any_size else self.size or self._usual_size()
        height, width = size or (module.least + 30, module.least + 51)
        self._step("following the model")
        program = trace(module, torch.zeros(2 if free else 1, 3, height, width, dtype=module.dtype), free)
        self._step("writing")
        if self.place.to == "onnx":
            write_onnx(program, path, answer, free, self.metadata)
            runner = run_onnx(path)
        else:
            write_program(program, path, self.metadata)
            runner = run_program(path)
        agreement = self._compared(runner, module.least, size, several=bool(free))
        fallen = str(reasons[0]) if reasons and self.size is None else ""
        least = module.least if any_size else 0
        return Exported(
            self.place,
            agreement,
            path.stat().st_size,
            answer,
            free,
            size,
            least,
            fallen,
            self.predictor.normalisation.dtype,
        )

    def _usual_size(self) -> tuple[int, int]:
        """The size of the first image there is, where it cannot be any."""
        given, source = self._chosen(2)
        height, width = (512, 512) if source.startswith("generated") else given[0].shape[:2]
        return height, width
