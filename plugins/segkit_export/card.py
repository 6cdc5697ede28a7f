"""The model card: a README.md with front matter for the Hugging Face hub, generated from the files of the run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

import segkit
from segkit.errors import one_line
from segkit.inference.predictor import Predictor
from segkit_export.origin import Origin, table
from segkit_export.place import MARK
from segkit_export.snippets import snippet

if TYPE_CHECKING:
    from segkit_export.exporting import Exported


def card(exported: Exported, origin: Origin, predictor: Predictor) -> str:
    """Return the text of README.md."""
    scores = [
        (split, name, own[name], _shown(table(own, "floor").get(name)))
        for split, own in ((split, table(origin.splits, split)) for split in origin.splits)
        for name in ("mean_iou", "pixel_accuracy", "mean_dice")
        if _is_number(own.get(name))
    ]
    rows = [(escaped(split), name, _shown(value), floor) for split, name, value, floor in scores]
    shown = _table(("split", "score", "value", "floor"), rows)
    shown += "\n\nThe floor is what the best constant prediction scores on the same split."
    what = f"What is written here was run and compared with PyTorch: equal on {exported.agreement}."
    if exported.answer:
        least = f" H and W may be any from {exported.least} pixels on." if exported.least else ""
        values = f"{escaped(', '.join(exported.channels))}, the values as they are stored"
        graph = f"`{exported.signature}`, {values}; normalisation and resizing are part of the graph.{least}"
        what = f"{graph} {what}"
    packages = {"segkit": origin.record.get("segkit"), **table(origin.record, "packages")}
    trained = ", ".join(f"{name} {value}" for name, value in packages.items() if value)
    now = escaped(f"segkit {segkit.__version__}, torch {version('torch')}")
    on = f", trained on {escaped(origin.dataset)}" if origin.dataset else ""
    parts = [
        f"---\n{_front_matter(exported, origin, scores)}---",
        f"<!-- written by {MARK}; another export into this folder replaces it -->",
        f"# {escaped(origin.model_name)}{on}",
        f"Semantic segmentation: {len(predictor.classes)} classes, a class for each pixel. {what}",
        "## How to use it",
        snippet(exported, origin),
        "## Classes",
        _classes(origin, predictor),
        f"Void, which was not trained on and is never predicted, is {predictor.ignore_index}.",
        "## Scores",
        shown if origin.splits else "None are known of these weights.",
        "## Training",
        _training(origin),
        "## Versions",
        f"Trained with {escaped(trained or 'versions that are not known')}; exported with {now}.",
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: object) -> str:
    """Escape a text so that Markdown shows it literally, in a line or a table cell."""
    return re.sub(r"([\\`*_\[\]<>|~&$#@]|:(?=//)|(?<=www)\.)", r"\\\1", one_line(text))  # addresses do not become links


def _front_matter(exported: Exported, origin: Origin, scores: Iterable[tuple[str, str, float, str]]) -> str:
    task, data, last = "image-segmentation", origin.dataset, list(origin.splits)[-1:]
    results = [
        EvalResult(task, data, data, name, value, dataset_split=split, metric_name=f"{name} on {split} (floor {floor})")
        for split, name, value, floor in scores
        if [split] == last and data
    ]
    facts: dict[str, Any] = {"library_name": "segkit", "pipeline_tag": task}
    facts["tags"] = [task, "semantic-segmentation", "segkit", origin.model_name]
    facts["tags"] += [exported.place.to] if exported.answer else []
    if results:
        facts |= {"model_name": f"{origin.model_name} on {data}", "eval_results": results}
    return ModelCardData(**facts).to_yaml() + "\n"


def _classes(origin: Origin, predictor: Predictor) -> str:
    split = list(origin.splits)[-1] if origin.splits else ""
    scores = table(table(origin.splits, split), "class_iou")
    rows = [
        [str(label), escaped(name), "#{:02x}{:02x}{:02x}".format(*colour), _shown(scores.get(name))]
        for label, (name, colour) in enumerate(zip(predictor.classes, predictor.palette, strict=True))
    ]
    return _table(["label", "class", "colour", f"IoU on {escaped(split)}" if split else "IoU"], rows)


def _training(origin: Origin) -> str:
    options = ", ".join(f"{name} = {value!r}" for name, value in origin.options.items())
    losses = origin.settings.get("loss")
    names = ", ".join(str(each.get("name")) for each in losses if isinstance(each, dict)) if losses else ""
    train = table(origin.settings, "train")
    chosen = ("minutes", "epochs", "batch_size", "optimizer", "lr", "schedule", "seed")
    rows = {
        "model": f"{origin.model_name} ({options})" if options else origin.model_name,
        "data set": origin.dataset or "not known",
        "losses": names or None,
        **{name: train.get(name) for name in chosen},
        "resize": origin.config["resize"] or None,
    }
    return _table(["what", "value"], [[name, escaped(value)] for name, value in rows.items() if value is not None])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _shown(value: Any) -> str:
    return f"{value:.3f}" if _is_number(value) else "–"
