"""Look at a folder: which data set it is, what its masks store, what a scan of it says, and what stays open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from segkit.compose import build_splits, scan_dataset
from segkit.data.scan import Scan
from segkit.errors import Issue, SegkitError, first_few
from segkit.options import options_of
from segkit.registry import datasets
from segkit_init.findings import Answer, Findings, Question
from segkit_init.groups import group_of
from segkit_init.labels import COLOUR, VOID, StoredLabels, question_of, read_labels, stored_labels
from segkit_init.plan import Facts
from segkit_init.readings import Reading, config_of, mask_files, pictures_in, readings_of, said
from segkit_init.text import options_text

_TOO_FEW = 10  # pictures: a score of one or two says next to nothing
_MOST_FILES = 20  # that are called as a file of names
_NAMES = re.compile(r".*(class|label|names|categor|codes|colou?r).*\.(txt|csv|names)", re.IGNORECASE)
_MEND = Answer("mend that first, and start again")


def look(root: Path) -> Findings:
    """All that is found in a folder; of what is open, the first answer is taken, and the question kept.

    Raises:
        SegkitError: nothing can be trained from it, and why.
    """
    notes: list[str] = []
    questions: list[Question] = []
    readings = readings_of(root, notes)
    first = readings[0]
    options = dict(first.options)
    if len(readings) > 1:
        answers = [Answer(said(each, readings)) for each in readings]
        questions.append(Question("the folder can be read in several ways: which one is meant?", answers, "root"))
    if first.asks_for_classes:
        questions.append(_classes(first, stored_labels(read_labels(mask_files(first)))))
        options |= questions[-1].answers[0].options
    known = {option.name for option in options_of(datasets.find(first.dataset)) if not option.given} - {*options}
    is_dealt = "split_seed" in known and _is_dealt(first.dataset, options)
    if is_dealt and "val" in options:
        questions.append(
            Question("nothing says which images are val: chance takes them from train", (), "val", must=False)
        )
    elif is_dealt and "fractions" in known:
        text = "nothing says which images are which split: chance deals them, every time alike"
        options["fractions"] = [0.7, 0.15, 0.15]
        questions.append(Question(text, (), "fractions", must=False))
    scan = scan_dataset(config_of(first.dataset, options))
    asked = [_groups(scan, Path(options["root"]).expanduser())] if is_dealt and "group" in known else []
    asked += [_issue(issue, sum(map(len, scan.splits.values()))) for issue in scan.errors]
    for question in asked:
        if question and not {*question.answers[0].options} & {*options}:
            questions.append(question)
            options |= question.answers[0].options
    if (channels := len(scan.splits["train"].channels)) > 3:
        text = f"which of the {channels} channels are red, green and blue in pictures? (the network sees all of them)"
        guess = (
            [4, 3, 2] if channels >= 12 else [3, 2, 1]
        )  # Sentinel-2 has coast, blue, green, red; others begin at blue
        questions.append(Question(text, [Answer("", {"data.rgb": guess})], "data.rgb", must=False))
        options |= {"data.rgb": guess}
    total = sum(map(len, scan.splits.values()))
    if total < _TOO_FEW and not any(question.must for question in questions):
        text = f"{total} pictures in all: there is little to learn from, and scores of so few say next to nothing"
        fractions = {"fractions": [0.7, 0.3]} if "fractions" in options else {}  # of so few two splits, not three
        answers = [Answer("go on, to see that training works", fractions), Answer("label some 20 more first")]
        questions.append(Question(text, answers, next(iter(fractions), "root")))
        options |= fractions
    scan = scan_dataset(config_of(first.dataset, options))  # what was read before is remembered
    if not scan.statistics["train"]:
        scan.refuse_errors()
    used = {
        path.resolve().parent for data in scan.splits.values() for at in range(len(data)) for path in data.files(at)
    }
    unread = [
        f"{number} in {name}" for name, number in pictures_in(root).items() if (root / name).resolve() not in used
    ]
    notes += [f"pictures that are not read: {first_few(unread)}"] if unread else []
    return Findings(first.dataset, options, scan, questions, notes)


def facts_of(found: Findings) -> Facts:
    """What the plan follows from."""
    dataset, train = found.scan.splits["train"], found.scan.statistics["train"]
    return Facts(
        sizes=[each.size for each in train],
        channels=len(dataset.channels),
        is_8_bit=train[0].dtype == "uint8",
        shares=found.scan.counts("train").shares.tolist(),
        card=torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0,
    )


def _classes(reading: Reading, stored: StoredLabels) -> Question:
    """What the labels mean; by a file of names or colours where one fits."""
    plain = {label for label in stored.pixels if label != VOID or len(stored.pixels) < 3}
    names: Sequence[str] = ()
    root = Path(reading.options["root"]).expanduser()
    files = sorted(path for deep in ("*", "*/*") for path in root.glob(deep) if _NAMES.fullmatch(path.name))
    for path in files[:_MOST_FILES]:
        options = {"classes": path.relative_to(root).as_posix()}
        try:
            dataset = build_splits(config_of(reading.dataset, {**reading.options, **options}))[0]["train"]
        except SegkitError:  # no class file
            continue
        known = {_number(label) for those in dataset.stored or () for label in those}
        if plain <= known and len(known) <= 2 * len(plain):
            return Question("", [Answer("", options)], "classes", must=False)
        names = names or dataset.classes
    return question_of(stored, names)


def _number(label: Any) -> int:
    """A stored label, or a colour, as a number."""
    return COLOUR | label[0] << 16 | label[1] << 8 | label[2] if isinstance(label, tuple) else int(label)


def _is_dealt(dataset: str, options: Mapping[str, Any]) -> bool:
    """Whether chance has divided the pictures: another seed, another division."""
    both = [build_splits(config_of(dataset, {**options, "split_seed": seed}))[0]["train"] for seed in (0, 1)]
    return len({tuple(data.files(index) for index in range(len(data))) for data in both}) == 2


def _groups(scan: Scan, root: Path) -> Question | None:
    """Whether pictures belong together; where they look so, they do."""
    group = group_of([*scan.splits.values()], root)
    if group is None:
        return None
    text, option = f"the names come in {group.number} groups", {"group": group.pattern}
    if group.tells:
        text += f", and a picture is like another of its group ({group.inside:.2f}) and unlike others "
        text += f"({group.between:.2f}): no group is in two splits"
        return Question(text, [Answer("", option)], "group", must=False)
    text += f": is each of one object, patient or film? then {options_text(option)} keeps it in one split"
    return Question(text, [Answer("")], "fractions", must=False)


def _issue(issue: Issue, total: int) -> Question | None:
    """How to go on in spite of an error, where there is a way."""
    ways = {
        "same_picture": Answer("go on; the scores are then flattered", {"data.allow_leaks": True}),
        "image_without_mask": Answer("leave them out", {"skip_unpaired": True}),
        "mask_without_image": Answer("leave them out", {"skip_unpaired": True}),
        "overlap": Answer("the smallest object of a pixel counts", {"overlap": "smallest"}),
        "no_numbers": Answer("pixels that are no numbers are void", {"data.no_data": "void"}),
    }
    answer = ways.get(issue.kind)
    if answer is None and issue.skippable and 5 * len(issue.files) < total:
        answer = Answer("leave these files out", {"data.on_bad": "skip"})
    return Question(str(issue), [answer, _MEND], next(iter(answer.options))) if answer else None
