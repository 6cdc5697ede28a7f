"""Write findings and plan as a TOML config, with the reason or the question at each line."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from segkit.errors import one_line
from segkit_init.plan import Choice
from segkit_init.questions import Answer

if TYPE_CHECKING:
    from segkit_init.look import Findings

_WIDTH = 118
_EXPLAINED = ("data.resize", "augment.crop", "loss.class_weights")  # where one of these is left out, a comment says why
_COMMENT = 36  # the column of a comment beside a line


def toml(findings: Findings, plan: Mapping[str, Choice], path: str) -> str:
    """Return the text of a config that runs.

    Args:
        findings: findings; each question is written above the key that it concerns.
        plan: ``table.key`` -> value and reason.
        path: path of the config, for the commands at its top.
    """
    lines = [
        "# Written by `segkit init`. A ? marks a question to you; the lines below it hold the likelier answer.",
        "#",
        f"#     segkit check {path} --pictures looks    # the pictures beside their labels",
        f"#     segkit run {path}",
        "",
        "[dataset]",
        *_entry("name", findings.dataset),
    ]
    of_data = [key for key in findings.options if key.startswith("data.")]
    for key, value in findings.options.items():
        if key not in of_data:
            lines += _questions(key, findings)
            lines += _classes(findings) if key == "classes" and isinstance(value, list) else _entry(key, value)
    if not isinstance(findings.options.get("classes"), list):
        lines += _comment(f"its classes: {', '.join(findings.scan.splits['train'].classes)}")
    for note in findings.notes:
        lines += _comment(note, _mark(note))
    lines += ["", "[data]"]
    for key in of_data:
        lines += [*_questions(key, findings), *_entry(key.removeprefix("data."), findings.options[key])]
    lines += _planned("data", plan)
    lines += ["", "[model]", *_planned("model", plan)]
    both = "the sum of two; dice counts every class alike, however small"
    lines += ["", "[[loss]]", *_entry("name", "dice_cross_entropy", both), *_planned("loss", plan)]
    lines += ["", "[augment]", *_planned("augment", plan)]
    lines += _entry("flip", 0.5, "set 0 if left and right differ in meaning")
    lines += ["", "[train]", *_entry("optimizer", "muon", "from scratch it needs fewer steps than adamw")]
    return "\n".join([*lines, *_planned("train", plan), ""])


def value_text(value: Any) -> str:
    """Format a value as TOML."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {value_text(each)}' for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return json.dumps(value, ensure_ascii=False)


def options_text(options: Mapping[str, Any]) -> str:
    """Format keys and values as in a config, separated by commas."""
    return ", ".join(f"{key} = {value_text(value)}" for key, value in options.items())


def answer_text(answer: Answer) -> str:
    """Format an answer: its meaning and its options."""
    options = options_text(answer.options)
    return f"{answer.text}: {options}" if answer.text and options else answer.text or options


def _key(key: str) -> str:
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalpha()
    return key if is_bare else json.dumps(key, ensure_ascii=False)


def _entry(key: str, value: Any, why: str = "") -> list[str]:
    """Return ``key = value  # why``; a reason that does not fit beside the value goes on a line above."""
    line = f"{key} = {value_text(value)}"
    if not why:
        return [line]
    beside = f"{line:<{_COMMENT - 2}}  # {one_line(why)}"
    return [beside] if len(beside) <= _WIDTH else [*_comment(why), line]


def _comment(text: str, begin: str = "# ", below: str = "#   ") -> list[str]:
    lines = []
    for part in text.splitlines():
        lines += textwrap.wrap(
            one_line(part), _WIDTH, initial_indent=begin, subsequent_indent=below, break_long_words=False
        )
        begin = below
    return lines


def _planned(table: str, plan: Mapping[str, Choice]) -> Iterator[str]:
    for path, (value, why) in plan.items():
        if path.startswith(f"{table}."):
            key = path.rpartition(".")[2]
            if value is not None:
                yield from _entry(key, value, why)
            elif path in _EXPLAINED:
                yield from _comment(f"no {key}: {why}")


def _questions(key: str, findings: Findings) -> list[str]:
    """Return the questions about a key, the answer taken, and the other answers with their options."""
    lines = []
    for question in findings.questions:
        if question.answers and question.key == key and question.text:
            lines += _comment(question.text, _mark(question.text))
            taken, *others = question.answers
            lines += _comment(f"taken: {taken.text}", "#   ", "#     ") if taken.text else []
            lines += [line for each in others for line in _comment(f"or: {answer_text(each)}", "#   ", "#     ")]
    return lines


def _mark(text: str) -> str:
    return "# ? " if "?" in text else "# "


def _classes(findings: Findings) -> list[str]:
    """Return the class names, one per line, each with its stored labels and its share of the training pixels."""
    dataset, shares = findings.scan.splits["train"], findings.scan.counts("train").shares.tolist()
    stored = dataset.stored or [[index] for index in range(len(shares))]
    lines = ["classes = ["]
    for name, labels, share in zip(dataset.classes, stored, shares, strict=True):
        held = " and ".join(str(list(label)) if isinstance(label, tuple) else str(label) for label in labels)
        lines.append(f"{f'    {value_text(name)},':<{_COMMENT - 2}}  # {held}: {share:.2%} of the training pixels")
    return [*lines, "]"]
