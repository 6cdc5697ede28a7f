"""The steps of an export: write to a temporary folder, run the file, compare it with PyTorch, move it into place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import segkit
from segkit.errors import ModelError
from segkit.inference.predictor import Predictor
from segkit_export.card import card
from segkit_export.comparison import Agreement, Pixels, compare, fitting, generated_images, images_of_run
from segkit_export.formats import Runner, write_onnx, write_program, write_weights
from segkit_export.graph import FREEDOMS, Deployed, Free, trace
from segkit_export.origin import Origin
from segkit_export.place import CARD, MARK, Place, filled, find_place


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        place: the folder and the names of the files in it.
        agreement: the agreement with PyTorch.
        bytes: size of the file that holds the model.
        answer: name of the graph's output, ``labels`` or ``logits``; empty for safetensors.
        free: the dynamic dimensions, among ``batch``, ``height`` and ``width``.
        size: height and width of the image, if fixed.
        least: the minimum of height and width, if dynamic.
        fixed_because: why the size is fixed although no size was requested.
        dtype: dtype of the image.
        channels: names of the image's channels.
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
        """Input and output, such as ``image uint8 [B,3,H,W] -> labels uint8 [B,H,W]``."""
        batch = "B" if "batch" in self.free else "1"
        sides = f"{self.size[0]},{self.size[1]}" if self.size else "H,W"
        out = f"logits float32 [{batch},C,{sides}]" if self.answer == "logits" else f"labels uint8 [{batch},{sides}]"
        return f"image {self.dtype} [{batch},{len(self.channels)},{sides}] -> {out}"

    def lines(self) -> list[str]:
        """Return the lines to print."""
        least = f"; H and W from {self.least}" if self.least else ""
        fixed = f"the size is fixed, and --size H W chooses another: {self.fixed_because}"
        return [
            f"{self.place.folder / self.place.names[0]}: {self.bytes / 1e6:.1f} MB",
            *([f"{self.signature}{least}"] if self.answer else []),
            *([fixed] if self.fixed_because else []),
            f"equal to PyTorch: {self.agreement}",
            f"beside it: {', '.join(self.place.names[1:])}",
        ]

    def record(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        optional = {name: getattr(self, name) or None for name in ("size", "least", "fixed_because")}
        return {
            "to": self.place.to,
            "files": [str(self.place.folder / name) for name in self.place.names],
            "bytes": self.bytes,
            "output": self.answer or None,
            "free": self.free,
            **optional,
            "agreement": self.agreement.share,
            "pixels": self.agreement.pixels,
            "images": self.agreement.sizes,
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
    """Write a model for use outside segkit, and compare the written file with PyTorch.

    The command ``export`` cannot build a model that was passed to :func:`segkit.fit` as an object. Export it with
    ``export(segkit.load("runs/mine", model=net), to="onnx", output="mine", run="runs/mine")``.

    Args:
        predictor: provides the model, its classes and its resize setting; is not modified.
        to: ``onnx``, ``torch-export`` or ``safetensors``.
        output: a folder, or a ``.onnx`` or ``.pt2`` file.
        logits: return logits instead of labels, divided by the temperature if the run was calibrated.
        size: fixed (height, width) of the graph's input; by default any size, if the model allows it.
        images: images ``[H,W,I]`` for the comparison; by default images of the run's val split, or generated ones.
        run: the run folder, or a file of weights in it; the model card shows its data and scores.

    Raises:
        ConfigError: the format is unknown, or the output cannot be written or holds files of other origin.
        PluginError: packages for ``onnx`` are missing.
        ModelError: the model is an ensemble or cannot be exported, or fewer than 99.9 % of the pixels agree; nothing is
            written then.
    """
    if predictor.inferer.networks:
        raise ModelError("an ensemble is not one network; export each of its runs")
    place = find_place(to, Path(output))
    origin = Origin(predictor, Path(run) if run is not None else None)
    return _Export(predictor, place, origin, images).run(logits, size)


class _Export:
    """One export of a predictor, which is not modified; for the arguments see :func:`export`."""

    def __init__(self, predictor: Predictor, place: Place, origin: Origin, images: Sequence[Pixels] = ()) -> None:
        self.place, self.origin = place, origin
        self.source = "given images" if images else "images of val"
        self.images = images or images_of_run(origin.settings)
        self.source = self.source if self.images else "generated images"
        known = ("classes", "palette", "ignore_index", "resize", "normalisation", "images")
        self.own = Predictor(
            deepcopy(predictor.model).requires_grad_(False),  # the graph is for inference
            device="cpu",
            precision="fp32",
            temperature=predictor.inferer.temperature,
            **{name: getattr(predictor, name) for name in known},
        )
        self.own.model.to(memory_format=torch.contiguous_format)  # checks for channels_last depend on sizes
        facts: dict[str, Any] = {name: getattr(predictor, name) for name in known[:3]}
        facts[MARK] = {"segkit": segkit.__version__, "to": place.to, "model": origin.model_name}
        facts[MARK] |= {"options": origin.options, "dataset": origin.dataset}
        self.metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}

    def run(self, logits: bool, size: tuple[int, int] | None) -> Exported:
        """Write the files, compare them with PyTorch, and move them into place."""
        with filled(self.place) as folder, tqdm(total=3, unit="step", leave=False, disable=None) as self.bar:
            path = folder / self.place.names[0]
            if self.place.to == "safetensors":
                self._step("writing")
                model = None if self.origin.model else deepcopy(self.own.model)
                runner = write_weights(self.own.model, path, self.origin.config, self.metadata, model)
                agreement = self._compared(runner, 2, None, several=False)
                found = Exported(self.place, agreement, path.stat().st_size)
            else:
                found = self._graph(path, logits, size)
            (folder / CARD).write_text(card(found, self.origin, self.own), "utf-8")
        return found

    def _graph(self, path: Path, logits: bool, size: tuple[int, int] | None) -> Exported:
        """Export with as many dynamic dimensions as torch can trace: batch and size, else batch alone, else none."""
        reasons: list[ModelError] = []
        for free in FREEDOMS[0 if size is None else 1 :]:
            try:
                done = self._attempt(path, free, logits, size)
                return replace(done, fixed_because=str(reasons[0]) if reasons and size is None else "")
            except ModelError as error:
                reasons.append(error)
        advice = "" if "--to safetensors" in str(reasons[-1]) else "; --to safetensors writes the weights alone"
        raise ModelError(f"{reasons[-1]}{advice}") from reasons[-1]

    def _attempt(self, path: Path, free: Free, logits: bool, size: tuple[int, int] | None) -> Exported:
        self.bar.reset()
        self._step("following the model")
        answer, any_size, how = "logits" if logits else "labels", 2 in free, self.own.normalisation
        module = Deployed(self.own, logits=logits, any_size=any_size).eval()
        if size is None and not any_size:
            size = (*self.images[0].shape[:2],) if self.images else (512, 512)
        height, width = size or (module.least + 30, module.least + 51)
        image = torch.zeros(2 if free else 1, len(how.mean), height, width, dtype=module.dtype)
        program = trace(module, image, free)
        self._step("writing")
        if self.place.to == "onnx":
            runner = write_onnx(program, path, answer, free, self.metadata)
        else:
            runner = write_program(program, path, self.metadata)
        agreement = self._compared(runner, module.least, size, several=bool(free))
        done = Exported(self.place, agreement, path.stat().st_size, answer, tuple(free.values()), size)
        done = replace(done, dtype=how.dtype, channels=self.own.images.channels)
        return replace(done, least=module.least) if any_size else done

    def _compared(self, runner: Runner, least: int, size: tuple[int, int] | None, *, several: bool) -> Agreement:
        self._step("comparing with PyTorch")
        images = fitting(self.images or generated_images(least, self.own), least, size)
        return compare(runner, self.own, images, self.source, several=several)

    def _step(self, what: str) -> None:
        self.bar.set_description(what)
        self.bar.update()
