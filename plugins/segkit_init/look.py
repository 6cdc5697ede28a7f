"""Inspect a folder: find its data set, what its masks store, what a scan reports, and which questions are open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import segkit
from segkit.compose import scan_dataset
from segkit.data.scan import Scan
from segkit.options import options_of
from segkit_init.groups import groups_asked
from segkit_init.issues import bands_asked, division_asked, few_asked, images_asked, issues_asked, unread_noted
from segkit_init.names import labels_asked, unseen_in
from segkit_init.placed import placed
from segkit_init.questions import Answer, Question
from segkit_init.reading import Reading, config_of, name_of
from segkit_init.readings import readings_of
from segkit_init.stored import some_of


class Findings:
    """What is found in a folder.

    Attributes:
        dataset: name of the data set that reads the folder.
        options: keys of ``[dataset]``, and of ``[data]`` with the prefix ``data.``; they include the first answer to
            each question.
        questions: notes, proposals and questions.
    """

    def __init__(self, reading: Reading, questions: Iterable[Question]) -> None:
        self.dataset, self.questions = reading.dataset, [*questions]
        self.options = {name: value for name, value in reading.options.items() if name != "threshold"}  # asked about
        self._scanned: tuple[str, Scan] | None = None

    def ask(self, questions: Iterable[Question]) -> None:
        """Keep the questions and their first answers; skip a question whose first answer is set already."""
        for question in questions:
            is_set = question.taken and question.taken.items() <= self.options.items()
            if not is_set and question not in self.questions:
                self.questions.append(question)
                self.options.update(question.taken)

    @property
    def scan(self) -> Scan:
        """The scan of all splits with these options."""
        if self._scanned is None or self._scanned[0] != repr(self.options):
            self._scanned = repr(self.options), scan_dataset(config_of(self.dataset, self.options))
        return self._scanned[1]

    @property
    def notes(self) -> list[str]:
        """The texts without an answer."""
        return [each.text for each in self.questions if not each.answers]


def look(root: Path) -> Findings:
    """Return what is found in a folder, with the first answer to each open question, and the questions.

    Raises:
        SegkitError: nothing can be trained from it; with the reason.
    """
    asked: list[Question] = []
    first, *others = readings = readings_of(root, asked)
    if others:
        answers = [Answer(name_of(each, readings)) for each in readings]
        asked.append(Question("the folder can be read in several ways: which one is meant?", answers))
    known = {option.name for option in options_of(segkit.datasets.find(first.dataset))}
    masks = some_of(first.masks) if first.asks_for_classes else []
    while True:
        found, labels = Findings(first, asked), set[int]()
        found.ask(labels_asked(first, masks, labels) if masks else ())
        found.ask(division_asked(first, known))
        if not masks or not (unseen := unseen_in(found.scan, {*first.masks} - {*masks}, labels)):
            break
        masks += unseen
    options: dict[str, Any] = found.options
    is_dealt = "split_seed" in known and ("val" in options or first.is_dealt)
    if not is_dealt or "group" in known - options.keys():
        found.ask(groups_asked(found.scan, Path(options["root"]).expanduser(), options, is_dealt))
    for _ in range(2):  # one issue of a file may hide another
        found.ask(issues_asked(found.scan, known))
    found.ask(images_asked(first.images, str(options.get("masks"))) if masks else ())
    found.ask(placed(found.scan) if found.scan.statistics["train"] else ())
    channels, images = found.scan.splits["train"].channels, options.get("images")
    found.ask(bands_asked(images if isinstance(images, list) and len(images) == len(channels) else channels))
    if not any(question.must for question in found.questions):
        found.ask(few_asked(sum(map(len, found.scan.splits.values())), options))
    if not found.scan.statistics["train"]:
        found.scan.refuse_errors()
    if masks and len(masks) < len(first.masks):
        text = f"{len(masks)} of {len(first.masks)} masks were looked at to learn what they store; all were read"
        found.ask([Question(text)])
    found.ask(unread_noted(root, found.scan, options))
    return found
