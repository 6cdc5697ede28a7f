"""The command ``init``: inspect a folder, ask what the files leave open, and write a config that runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.cli.output import add_output_options, hanging, print_json
from segkit.errors import ConfigError, RunFolderError, first_few, reason
from segkit.registry import REGISTRIES

if TYPE_CHECKING:
    from segkit_init.look import Findings
    from segkit_init.plan import Choice
    from segkit_init.questions import Question

UNANSWERED = 1
_MOST_SHOWN = 500  # characters of an answer; a config has the whole


class Init:
    """Look at a folder of images and labels, and write a config for it that runs.

    It recognises data sets that a plugin knows, folders of images and masks, lists and annotation files; the labels
    that masks store, the classes and their names; sizes and channels; and similar pictures. It proposes crop, batch,
    width and time for this computer, each with its reason. Where files can be read in two ways, it shows both and
    writes nothing; --yes takes the likelier one. The exit status is 1 while such questions are open.
    """

    first = 0

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the folder, the output and how to answer."""
        parser.add_argument("folder", help="the folder that holds images and labels, in any layout")
        parser.add_argument("-o", "--output", default="mine.toml", help="the config to write (default: mine.toml)")
        parser.add_argument("--yes", action="store_true", help="take the likelier answer to every question")
        parser.add_argument("--overwrite", action="store_true", help="replace an existing config")
        parser.add_argument("--pictures", action="store_true", help="draw pictures beside their labels, for viewing")
        document = "config (null if nothing is written), dataset, options, splits, classes, plan, questions, notes"
        add_output_options(parser, document=f"{document}, errors")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Inspect, ask, write and check; return 1 if questions are open, 2 if a run would stop."""
        path, root = Path(arguments.output).expanduser(), Path(arguments.folder).expanduser()
        root = root.resolve() if root.name in ("", "..") else root  # the config must work from elsewhere
        if path.suffix != ".toml":
            raise ConfigError(f"-o {path}: the name of a config must end in .toml")
        if path.exists() and root.is_dir() and not arguments.overwrite:  # look reports a missing folder
            raise ConfigError(f"{path} exists; use --overwrite to replace it, or -o to write another file")
        import torch

        from segkit_init.look import look
        from segkit_init.plan import plan

        found = look(root)
        dataset, train = found.scan.splits["train"], found.scan.statistics["train"]
        memory = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
        is_8_bit, shares = train[0].dtype == "uint8", found.scan.counts("train").shares.tolist()
        chosen = plan([each.size for each in train], len(dataset.channels), is_8_bit, shares, memory)
        status = _write_answered(found, chosen, path, arguments)
        if arguments.json:
            print_json(_document(found, chosen, path if status != UNANSWERED else None))
        return status


def _write_answered(found: Findings, chosen: Mapping[str, Choice], path: Path, arguments: argparse.Namespace) -> int:
    """Print what was found; write the config unless a question is open."""
    from segkit_init.text import toml

    if not arguments.quiet:
        print(_summary(found))
    asked = [question for question in found.questions if question.must]
    for question in asked:
        print(_question_text(question))
    if asked and not arguments.yes:
        print(*(f"error: {issue}" for issue in found.scan.errors), sep="\n", end="")
        print(f"\nNothing is written. --yes takes the first answers and writes the others as comments into {path}.")
        return UNANSWERED
    text = toml(found, chosen, str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {reason(error)}") from error
    return _check_written(path, len(found.scan.statistics["train"]), arguments)


def _document(found: Findings, chosen: Mapping[str, Choice], path: Path | None) -> dict[str, Any]:
    """Return everything that is printed, for JSON."""
    questions = [
        {"text": each.text, "key": each.key, "must": each.must, "answers": [vars(answer) for answer in each.answers]}
        for each in found.questions
        if each.answers
    ]
    train = found.scan.splits["train"]
    return {
        "config": path and str(path),
        "dataset": found.dataset,
        "options": found.options,
        "splits": {name: len(dataset) for name, dataset in found.scan.splits.items()},
        "classes": dict(zip(train.classes, found.scan.counts("train").shares.tolist(), strict=True)),
        "plan": {key: choice._asdict() for key, choice in chosen.items()},
        "questions": questions,
        "notes": found.notes,
        "errors": [issue.record() for issue in found.scan.errors],
    }


def _summary(found: Findings) -> str:
    """Return what was recognised, one line per subject."""
    from segkit_init.plan import range_text
    from segkit_init.text import options_text

    train, shares = found.scan.splits["train"], found.scan.counts("train").shares.tolist()
    statistics, channels = found.scan.statistics["train"], len(train.channels)
    largest = sorted(zip(shares, train.classes, strict=True), reverse=True)
    layout = {key: value for key, value in found.options.items() if key not in ("classes", "value_map", "colour_map")}
    depth = "8 bits" if statistics[0].dtype == "uint8" else "more than 8 bits"
    sizes = range_text([each.size for each in statistics])
    rows = [
        ("data set", f"{found.dataset}: {options_text(layout)}"),
        ("pictures", ", ".join(f"{len(dataset)} {name}" for name, dataset in found.scan.splits.items())),
        ("", f"{sizes} pixels, {channels} channel{'s' * (channels > 1)} of {depth}"),
        ("classes", f"{len(shares)}: {first_few([f'{name} {share:.1%}' for share, name in largest], 8)}"),
        *(("?" if "?" in each.text else "note", each.text) for each in found.questions if each.text and not each.must),
    ]
    return "\n".join(hanging(f"{title:<10}{text}", 10) for title, text in rows)


def _question_text(question: Question) -> str:
    """Return a question with its answers; --yes takes the first."""
    from segkit_init.text import answer_text

    lines = [f"? {question.text}"]
    lines += [f"  {'or:   ' if place else '--yes:'} {answer_text(each)}" for place, each in enumerate(question.answers)]
    shown = [line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]} ..." for line in lines]
    return "\n".join(hanging(line, 9) for line in shown)


def _check_written(path: Path, images: int, arguments: argparse.Namespace) -> int:
    """Run the check of a run and print what the run will do; return 2 if it would stop."""
    check, parser = REGISTRIES["command"]["check"], argparse.ArgumentParser()
    check.add_arguments(parser)
    pictures = f"{path.with_suffix('')}_pictures"
    own = [str(path), "--quiet", *(["--pictures", pictures] if arguments.pictures else [])]
    status: int = check.run(parser.parse_args(own))
    if arguments.pictures:
        print(f"pictures: {pictures}")
    if status:
        print(f"{path} is written; a run would stop at the problems above")
        return status
    from segkit.config import read_config

    config = read_config(path)
    what = f"trains {config.model.name} on {images} images for {config.train.minutes:g} minutes"
    print(f"{path} is written; next: `segkit run {path}` {what}, and writes {config.folder}/")
    return 0
