"""Inspect a folder: find its data set, what its masks store, what a scan reports, and which questions are open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

import segkit
from segkit.compose import scan_dataset
from segkit.data.scan import Scan
from segkit.options import options_of
from segkit_init.asked import (
    bands_asked,
    division_asked,
    few_asked,
    folders_asked,
    inverted_asked,
    issues_asked,
    others_asked,
    twins_asked,
    unread_noted,
)
from segkit_init.classes import labels_asked, palette_asked, unseen_in
from segkit_init.findings import Answer, Findings, Question
from segkit_init.groups import groups_asked
from segkit_init.placed import placed
from segkit_init.plan import Facts
from segkit_init.reading import Reading, config_of, name_of
from segkit_init.readings import readings_of
from segkit_init.stored import some_of

_WITHOUT_VAL = (["train"], ["train", "test"])


class _Look:
    """Questions about a reading, and its options, to which the first answer to each question is added."""

    def __init__(self, reading: Reading, questions: Sequence[Question]) -> None:
        self.reading, self.questions = reading, [*questions]
        self.options = {name: value for name, value in reading.options.items() if name != "threshold"}  # asked about
        self._scanned: tuple[str, Scan] | None = None

    def ask(self, questions: Iterable[Question]) -> None:
        """Keep the questions and their first answers; skip a question whose first answer is set already."""
        for question in questions:
            taken = question.answers[0].options if question.answers else {}
            if not taken or not taken.items() <= self.options.items():
                self.questions.append(question)
                self.options.update(taken)

    @property
    def scan(self) -> Scan:
        """The scan with these options."""
        if self._scanned is None or self._scanned[0] != repr(self.options):
            self._scanned = repr(self.options), scan_dataset(config_of(self.reading.dataset, self.options))
        return self._scanned[1]


def look(root: Path) -> Findings:
    """Return what is found in a folder, with the first answer to each open question, and the questions.

    Raises:
        SegkitError: nothing can be trained from it; with the reason.
    """
    list_questions: list[Question] = []
    reading_notes: list[str] = []
    readings = readings_of(root, reading_notes, list_questions)
    first = readings[0]
    known = {option.name for option in options_of(segkit.datasets.find(first.dataset))}
    if "val" in known - {*first.options} and [*first.files] in _WITHOUT_VAL:
        first = replace(first, options={**first.options, "val": 0.15})
    masks = some_of(first.masks) if first.asks_for_classes else []
    while True:
        notes, look = [*reading_notes], _Look(first, list_questions)
        if len(readings) > 1:
            answers = [Answer(name_of(each, readings)) for each in readings]
            look.ask([Question("the folder can be read in several ways: which one is meant?", answers, "root")])
        options, labels = look.options, set[int]()
        look.ask(labels_asked(first, masks, notes, labels) if masks else ())
        if isinstance(options.get("classes"), list) and "palette" in known - {*options} and "threshold" not in options:
            look.ask(palette_asked(options, masks or first.masks))
        is_dealt = "split_seed" in known and first.is_dealt
        look.ask(division_asked(options, known) if is_dealt else ())
        look.ask(folders_asked(first.images, options) if is_dealt else ())

        if not masks or not (unseen := unseen_in(look.scan, {*first.masks} - {*masks}, labels)):
            break
        masks += unseen
    look.questions += twins_asked(first) if masks else ()  # the first answer is what is read
    if is_dealt and "group" in known - {*options}:
        look.ask(groups_asked(look.scan, Path(options["root"]).expanduser(), options))
    look.ask(issues_asked(look.scan, known))
    look.ask(inverted_asked(look.scan))
    look.ask(placed(look.scan) if look.scan.statistics["train"] else ())
    look.ask(others_asked(root, look.scan))
    look.ask(bands_asked(look.scan.splits["train"].channels))
    if not any(question.must for question in look.questions):
        look.ask(few_asked(sum(map(len, look.scan.splits.values())), options))
    scan = look.scan
    if not scan.statistics["train"]:
        scan.refuse_errors()
    if masks and len(masks) < len(first.masks):
        notes.append(f"{len(masks)} of {len(first.masks)} masks were looked at to learn what they store; all were read")
    return Findings(first.dataset, options, scan, look.questions, [*notes, *unread_noted(root, scan)])


def facts_of(found: Findings) -> Facts:
    """Return what the plan is based on."""
    dataset, train = found.scan.splits["train"], found.scan.statistics["train"]
    return Facts(
        sizes=[each.size for each in train],
        channels=len(dataset.channels),
        is_8_bit=train[0].dtype == "uint8",
        shares=found.scan.counts("train").shares.tolist(),
        card=torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0,
    )
