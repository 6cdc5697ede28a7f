"""What predicts in ``inference.py``: files to files, and one large image in sliding windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import segkit
from segkit.engine.precision import DTYPES, peak_memory
from segkit.inference.options import PredictOptions
from segkit.inference.predictor import Predictor
from segkit.inference.sliding_window import Inferer
from segkit.inference.window_grid import window_grid


@dataclass(frozen=True)
class Given:
    """What all contestants are given.

    Attributes:
        run: the folder of the trained network.
        images: files to predict.
        work: holds ``large.npy``, uint8 [H,W,3]; for what is written.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32`` or ``bf16``.
        window: side of a window, pixels.
        overlap: of neighbouring windows.
        batch: windows at a time.
    """

    run: Path
    images: Sequence[Path]
    work: Path
    device: str
    precision: str
    window: int
    overlap: float
    batch: int

    def predictor(self) -> Predictor:
        """The trained network."""
        return segkit.load(self.run, device=self.device, precision=self.precision)

    def autocast(self) -> Any:
        """As the loops have it."""
        return torch.autocast(self.device, DTYPES["bf16"], enabled=self.precision == "bf16")


class Clock(nn.Module):
    """A network that knows how long it took; on a CPU that is CPU time, of all threads."""

    def __init__(self, network: nn.Module, device: str) -> None:
        super().__init__()
        self.network, self.device, self.seconds = network, device, 0.0

    def now(self) -> float:
        """Seconds; a card is waited for."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def forward(self, images: Tensor) -> Any:
        """As the network's."""
        began = self.now()
        found = self.network(images)
        self.seconds += self.now() - began
        return found


@contextmanager
def measured(device: str) -> Iterator[dict[str, Any]]:
    """Wall time, CPU time, and the most memory beyond what is held already."""
    where, row = torch.device(device), dict[str, Any]()
    peak_memory(where, restart=True)
    held, cpu, began = peak_memory(where), time.process_time(), time.perf_counter()
    yield row
    if device == "cuda":
        torch.cuda.synchronize()
    row |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    row["memory_bytes"] = peak_memory(where) - held


def predict(given: Given) -> dict[str, Any]:
    """``segkit predict`` as it is called in a shell, in a process that has imported torch; masks alone."""
    from segkit.cli import main

    listed = given.work / "listed.txt"
    listed.write_text("\n".join(map(str, given.images)))
    given.predictor()  # what is imported by then is imported in the others too
    out = given.work / f"predict-{given.precision}"
    how = ["--device", given.device, "--precision", given.precision, "--no-overlay", "--quiet", "--out", str(out)]
    with measured(given.device) as row, redirect_stdout(StringIO()):
        status = main(["predict", str(given.run), *map(str, given.images), *how])
    assert status == 0, f"predict ended with {status}"
    return row | _told(given, row)


def hand(given: Given, prepare: Callable[[NDArray[np.uint8]], Tensor] | None = None) -> dict[str, Any]:
    """A loop with the same network, as tutorials write it: decode, normalise, network, resize, argmax, PNG."""
    predictor = given.predictor()
    palette = [value for colour in predictor.palette for value in colour]
    how = predictor.normalisation
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (how.mean, how.std))
    out = given.work / f"hand-{given.precision}"
    out.mkdir(exist_ok=True)
    with measured(given.device) as row, torch.inference_mode():
        for path in given.images:
            image = np.asarray(Image.open(path).convert("RGB"))  # [H,W,3]
            if prepare is None:
                x = (torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 - mean) / std
            else:
                x = prepare(image)
            with given.autocast():
                logits = predictor.model(x[None].to(given.device)).float()  # [1,C,H,W]
            if logits.shape[2:] != image.shape[:2]:
                logits = nn.functional.interpolate(logits, image.shape[:2], mode="bilinear")
            labels = Image.fromarray(logits.argmax(1)[0].to("cpu", torch.uint8).numpy())
            labels.putpalette(palette)
            labels.save(out / f"{path.stem}.png")
    return row | _told(given, row)


def smp(given: Given) -> dict[str, Any]:
    """The same loop with the preprocessing of segmentation_models_pytorch, in NumPy, as its examples have it."""
    from segmentation_models_pytorch.encoders import (
        preprocess_input,
    )  # get_preprocessing_fn asks a server for these numbers

    how = given.predictor().normalisation
    preprocess = partial(preprocess_input, mean=how.mean, std=how.std, input_range=[0, 1])
    return hand(given, lambda image: torch.from_numpy(preprocess(image).transpose(2, 0, 1).astype("float32")))


def onnx(given: Given) -> dict[str, Any]:
    """ONNX runtime with what ``segkit export`` wrote, on one thread or on as many as torch has."""
    import onnxruntime

    from segkit.cli import main

    file = given.work / "model.onnx"
    if not file.exists():
        with redirect_stdout(StringIO()):
            assert main(["export", str(given.run), "--to", "onnx", "--output", str(file), "--quiet"]) == 0
    predictor, how = given.predictor(), onnxruntime.SessionOptions()
    how.intra_op_num_threads = torch.get_num_threads()
    providers = (
        ["CUDAExecutionProvider", "CPUExecutionProvider"] if given.device == "cuda" else ["CPUExecutionProvider"]
    )
    session = onnxruntime.InferenceSession(str(file), how, providers=providers)
    out = given.work / "onnx"
    out.mkdir(exist_ok=True)
    with measured(given.device) as row:
        for path in given.images:
            image = np.asarray(Image.open(path).convert("RGB"))  # [H,W,3]
            (found,) = session.run(["labels"], {"image": np.ascontiguousarray(image.transpose(2, 0, 1))[None]})
            labels = Image.fromarray(np.asarray(found)[0])
            labels.putpalette([value for colour in predictor.palette for value in colour])
            labels.save(out / f"{path.stem}.png")
    return row | _told(given, row)


def _told(given: Given, row: dict[str, Any]) -> dict[str, Any]:
    return {"images": len(given.images), "images_per_second": len(given.images) / row["seconds"]} | _machine()


def _machine() -> dict[str, Any]:
    return {"threads": torch.get_num_threads(), "torch": torch.__version__}


def mosaic(images: Sequence[Path], side: int, file: Path) -> None:
    """A large image, uint8 [side,side,3], of many small ones side by side."""
    large = np.zeros((side, side, 3), np.uint8)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in images[:64]]
    height, width = pictures[0].shape[:2]
    for number, (top, left) in enumerate((y, x) for y in range(0, side, height) for x in range(0, side, width)):
        part = large[top : top + height, left : left + width]
        part[:] = pictures[number % len(pictures)][: part.shape[0], : part.shape[1]]
    np.save(file, large)


def _options(given: Given) -> dict[str, Any]:
    return {"tile": given.window, "overlap": given.overlap, "batch_size": given.batch}


def by_segkit(image: NDArray[np.uint8], predictor: Predictor, given: Given) -> NDArray[np.uint8]:
    """Labels [H,W]."""
    labels: NDArray[np.uint8] = predictor.predict(image, **_options(given))
    return labels


def by_monai(image: NDArray[np.uint8], predictor: Predictor, given: Given, argmax: bool = True) -> NDArray[np.uint8]:
    """The same with MONAI's function, and its own way from logits to labels, or a faster one."""
    from monai.inferers import sliding_window_inference
    from monai.transforms import AsDiscrete

    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(given.device)
    with torch.inference_mode(), given.autocast():
        images = predictor.normalisation.normalise(pixels)
        logits: Any = sliding_window_inference(
            images, given.window, given.batch, predictor.model, given.overlap, mode="gaussian", sigma_scale=0.125
        )
        found = AsDiscrete(argmax=True)(logits[0])[0] if argmax else logits[0].max(0).indices
    labels: NDArray[np.uint8] = torch.as_tensor(found).to("cpu", torch.uint8).numpy()
    return labels


def by_network(image: NDArray[np.uint8], predictor: Predictor, given: Given) -> None:
    """The network on as many windows, cut and normalised beforehand: 32 of them again and again."""
    starts = [[window.start for window in axis] for axis in _grid(image.shape[:2], given)]
    places = [(top, left) for top in starts[0] for left in starts[1]]
    side = given.window
    with torch.inference_mode(), given.autocast():
        cut = [torch.from_numpy(image[y : y + side, x : x + side].copy()).permute(2, 0, 1) for y, x in places[:32]]
        windows = [predictor.normalisation.normalise(each[None].to(given.device)) for each in cut]
        for number in range(len(places)):
            predictor.model(windows[number % len(windows)])


def by_whole(image: NDArray[np.uint8], predictor: Predictor, _: Given) -> NDArray[np.uint8]:
    """Labels [H,W] of the image seen whole."""
    labels: NDArray[np.uint8] = predictor.predict(image, tile=0)
    return labels


def windows(given: Given, name: str, way: Callable[..., NDArray[np.uint8] | None]) -> dict[str, Any]:
    """From pixels to labels, with the network's own time, and how many labels are others than those of the whole."""
    image, predictor = np.load(given.work / "large.npy"), given.predictor()
    way(image[: given.window, : 2 * given.window].copy(), predictor, given)  # what is set up at the first call
    clock = predictor.model = predictor.inferer.model = Clock(predictor.model, given.device)
    with measured(given.device) as row:
        labels = way(image, predictor, given)
    whole = row["cpu_seconds"] if given.device == "cpu" else row["seconds"]
    row |= {"network_seconds": clock.seconds, "beyond_seconds": whole - clock.seconds, "side": len(image)} | _machine()
    truth = given.work / "whole.npy"
    if name == "whole":
        np.save(truth, labels)
    elif labels is not None and truth.exists():
        row["apart"] = float((labels != np.load(truth)).mean())
    return row


def _grid(size: tuple[int, ...], given: Given) -> Any:
    return window_grid((size[0], size[1]), PredictOptions(**_options(given)), classes=1)


class _Recorder(nn.Module):
    """Keeps a few pixels of each window in place of a network."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.seen = classes, list[bytes]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen += [each[:, ::31, ::31].float().cpu().numpy().tobytes() for each in images]
        return images.new_zeros(len(images), self.classes, *images.shape[2:])


def same_windows(given: Given) -> int:
    """How many windows both cut out of the image; they have to be the same, or nothing can be compared."""
    image, predictor, seen = np.load(given.work / "large.npy"), given.predictor(), []
    for way in (by_segkit, partial(by_monai, argmax=False)):
        recorder = predictor.model = predictor.inferer.model = _Recorder(len(predictor.classes))
        way(image, predictor, given)
        seen.append(sorted(recorder.seen))
    assert seen[0] == seen[1], f"segkit cuts {len(seen[0])} windows, MONAI {len(seen[1])}, and they are not the same"
    return len(seen[0])


def profile(given: Given) -> str:
    """Where ``predict`` spends its CPU time: run with OMP_NUM_THREADS=1, as a thread knows only its own."""
    from segkit_predict import writer

    spent = dict[str, float]()

    def timed(holder: Any, name: str, part: str) -> None:
        before = getattr(holder, name)

        def call(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return before(*arguments, **named)
            finally:
                spent[part] = spent.get(part, 0.0) + time.thread_time() - began

        setattr(holder, name, call)

    timed(Inferer, "logits", "normalise and network")
    timed(Predictor, "predict", "predict")
    timed(writer.Writer, "_read", "decode (in threads)")
    timed(writer.Writer, "_write", "PNG (in threads)")
    row = predict(given)
    spent["labels"] = spent.pop("predict") - spent["normalise and network"]
    spent["load, arguments, rest"] = row["cpu_seconds"] - sum(spent.values())
    lines = [
        f"{part:24}{1000 * each / len(given.images):9.2f} ms{each / row['cpu_seconds']:8.1%}"
        for part, each in spent.items()
    ]
    return "\n".join([f"CPU time of an image, of {len(given.images)}: {row['cpu_seconds']:.2f} s together", *lines])


CONTESTANTS: dict[str, Callable[[Given], dict[str, Any]]] = {
    "predict": predict,
    "hand": hand,
    "smp": smp,
    "onnx": onnx,
    "whole": lambda given: windows(given, "whole", by_whole),
    "network": lambda given: windows(given, "network", by_network),
    "segkit": lambda given: windows(given, "segkit", by_segkit),
    "monai": lambda given: windows(given, "monai", by_monai),
    "monai max": lambda given: windows(given, "monai max", partial(by_monai, argmax=False)),
}
PART_OF = {name: "files" if number < 4 else "windows" for number, name in enumerate(CONTESTANTS)}
