"""An export from the beginning to the end: write, run what was written, compare, and only then give it its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import segkit
from segkit.data.read import Pixels
from segkit.errors import ConfigError, ModelError
from segkit.inference.predictor import Predictor
from segkit_export.card import card
from segkit_export.comparison import COUNT, Agreement, compare, fitting, generated_images, images_of_run
from segkit_export.formats import (
    Runner,
    run_onnx,
    run_program,
    run_weights,
    write_onnx,
    write_program,
    write_weights,
)
from segkit_export.graph import ANY_SIZE, FREEDOMS, Deployed, trace
from segkit_export.origin import Origin
from segkit_export.place import CARD, MARK, Place, filled, find_place, require_packages


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        place: the folder and the files in it.
        agreement: with PyTorch.
        bytes: of the file that holds the model.
        answer: ``labels`` or ``logits``; nothing of weights alone.
        free: of ``batch``, ``height`` and ``width`` those that may be any.
        size: the height and width of an image, where they are fixed.
        least: the fewest pixels a side, where they may be any.
        fixed_because: why the size is fixed, where nobody asked for that.
        dtype: of the image.
        channels: of the image, by name.
    """

    place: Place
    agreement: Agreement
    bytes: int = 0
    answer: str = ""
    free: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    least: int = 0
    fixed_because: str = ""
    dtype: str = "uint8"
    channels: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """Input and output, as ``image uint8 [B,3,H,W] -> labels uint8 [B,H,W]``."""
        batch = "B" if "batch" in self.free else "1"
        sides = f"{self.size[0]},{self.size[1]}" if self.size else "H,W"
        out = f"logits float32 [{batch},C,{sides}]" if self.answer == "logits" else f"labels uint8 [{batch},{sides}]"
        return f"image {self.dtype} [{batch},{len(self.channels)},{sides}] -> {out}"

    def lines(self) -> list[str]:
        """For people."""
        found = [f"{self.place.model}: {self.bytes / 1e6:.1f} MB"]
        if self.answer:
            found.append(f"{self.signature}{f'; H and W from {self.least}' if self.least else ''}")
        if self.fixed_because:
            found.append(f"the size is fixed, and --size H W chooses another: {self.fixed_because}")
        found.append(f"equal to PyTorch: {self.agreement}")
        found.append(f"beside it: {', '.join(self.place.names[1:])}")
        return found

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "to": self.place.to,
            "files": [str(self.place.folder / name) for name in self.place.names],
            "bytes": self.bytes,
            "output": self.answer or None,
            "free": list(self.free),
            "size": list(self.size) if self.size else None,
            "least": self.least or None,
            "fixed_because": self.fixed_because or None,
            "agreement": self.agreement.share,
            "pixels": self.agreement.pixels,
            "images": [list(size) for size in self.agreement.sizes],
            "source": self.agreement.source,
        }


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
        logits: the scores of all classes instead of labels, divided by the temperature of a run that was calibrated.
        size: (height, width) where the graph is to take one size; left out: any, where the model allows it.
        images: ``[H,W,I]``, to compare with; left out: those of the run's split val, or generated ones.
        run: its folder, for the card's data and scores.

    Raises:
        ConfigError: no such format, or a place that cannot be written or holds something else.
        PluginError: ``onnx`` without its packages.
        ModelError: the model cannot be exported, or fewer than 99.9 % of the pixels agree; nothing is written then.
    """
    place = find_place(to, Path(output))
    require_packages(to)
    origin = Origin(predictor, Path(run) if run is not None else None)
    return _Export(predictor, place, origin, logits, size, images).run()


def export_run(run: Path, place: Place, *, logits: bool, size: tuple[int, int] | None) -> Exported:
    """What the command does: as :func:`export`, of a run folder or one of its files.

    Raises:
        SegkitError: see there and :func:`segkit.load`; its model was given as an object.
    """
    folder = run if run.is_dir() else run.parent
    if (folder / "config.json").is_file() and segkit.read_run(folder).model.get("model") is None:
        raise ConfigError(
            f"{folder} was trained on a model that was given as an object, which no command can build; in Python: "
            f"segkit_export.export(segkit.load({str(run)!r}, model=...), to={place.to!r}, output=..., "
            f"run={str(folder)!r})"
        )
    predictor = segkit.load(run, device="cpu", precision="fp32")
    best = run.is_dir() or run.name != "last.pt"  # whose scores result.json has
    return _Export(predictor, place, Origin(predictor, folder, scores=best), logits, size, ()).run()


@dataclass
class _Export:
    """One export; of the predictor, which stays as it is, to a place; the rest is as :func:`export` has it."""

    predictor: Predictor
    place: Place
    origin: Origin
    logits: bool
    size: tuple[int, int] | None
    images: Sequence[Pixels] = ()

    def __post_init__(self) -> None:
        self.source = "given images" if self.images else "images of val"
        self.images = self.images or images_of_run(self.origin.settings)[:COUNT]
        self.source = self.source if self.images else "generated images"
        known = ("classes", "palette", "ignore_index", "resize", "normalisation", "images")
        self.reference = Predictor(
            deepcopy(self.predictor.model).requires_grad_(False),  # whoever runs the graph wants no gradients
            device="cpu",
            precision="fp32",
            temperature=self.predictor.inferer.temperature,
            **{name: getattr(self.predictor, name) for name in known},
        )
        self.reference.model.to(memory_format=torch.contiguous_format)  # channels_last is a question of sizes
        origin = self.origin
        facts: dict[str, Any] = {  # what every exported file says of itself
            **{name: getattr(self.predictor, name) for name in known[:3]},
            MARK: {"segkit": segkit.__version__, "to": self.place.to, "model": origin.model_name}
            | {"options": origin.options, "dataset": origin.dataset},
        }
        self.metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}

    def run(self) -> Exported:
        """Write, compare, and give what was written its name."""
        with filled(self.place) as folder, tqdm(total=3, unit="step", leave=False, disable=None) as self.bar:
            path = folder / self.place.names[0]
            found = self._weights(path) if self.place.to == "safetensors" else self._graph(path)
            (folder / CARD).write_text(card(found, self.origin, self.reference), "utf-8")
        return found

    def _step(self, what: str) -> None:
        self.bar.set_description(what)
        self.bar.update()

    def _compared(self, runner: Runner, least: int, size: tuple[int, int] | None, several: bool) -> Agreement:
        self._step("comparing with PyTorch")
        images = self.images or generated_images(least, self.predictor.normalisation)
        return compare(runner, self.reference, fitting(images, least, size), self.source, several=several)

    def _weights(self, path: Path) -> Exported:
        self._step("writing")
        write_weights(self.reference.model, path, self.origin.config, self.metadata)
        model = deepcopy(self.reference.model) if self.origin.model is None else None
        agreement = self._compared(run_weights(path, model), 2, None, several=False)
        return Exported(self.place, agreement, bytes=path.stat().st_size)

    def _graph(self, path: Path) -> Exported:
        """With as much freedom as torch can follow: any size, else any batch, else neither."""
        reasons: list[ModelError] = []
        for free in FREEDOMS if self.size is None else FREEDOMS[1:]:
            try:
                return self._attempt(path, free, reasons)
            except ModelError as error:
                reasons.append(error)
        advice = "" if "--to safetensors" in str(reasons[-1]) else "; --to safetensors writes the weights alone"
        raise ModelError(f"{reasons[-1]}{advice}") from reasons[-1]

    def _attempt(self, path: Path, free: tuple[str, ...], reasons: Sequence[ModelError]) -> Exported:
        self.bar.reset()
        answer = "logits" if self.logits else "labels"
        any_size, how, own = free == ANY_SIZE, self.predictor.normalisation, self.reference
        module = Deployed(
            own.model, own.resize, how, logits=self.logits, any_size=any_size, temperature=own.inferer.temperature
        )
        size = None
        if not any_size:
            size = self.size or ((*self.images[0].shape[:2],) if self.images else (512, 512))
        height, width = size or (module.least + 30, module.least + 51)
        self._step("following the model")
        program = trace(
            module.eval(), torch.zeros(2 if free else 1, len(how.mean), height, width, dtype=module.dtype), free
        )
        self._step("writing")
        if self.place.to == "onnx":
            write_onnx(program, path, answer, free, self.metadata)
            runner = run_onnx(path)
        else:
            write_program(program, path, self.metadata)
            runner = run_program(path)
        agreement = self._compared(runner, module.least, size, several=bool(free))
        return Exported(
            self.place,
            agreement,
            path.stat().st_size,
            answer,
            free,
            size,
            least=module.least if any_size else 0,
            fixed_because=str(reasons[0]) if reasons and self.size is None else "",
            dtype=how.dtype,
            channels=self.predictor.images.channels,
        )
