"""The command ``init``: it looks at a folder, asks what the files do not tell, and writes a config that runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.cli.output import add_output_options, hanging, print_json
from segkit.config import read_config
from segkit.errors import ConfigError, RunFolderError, first_few, reason
from segkit.registry import REGISTRIES

if TYPE_CHECKING:
    from segkit_init.findings import Findings, Question
    from segkit_init.plan import Choice, Facts

UNANSWERED = 1


class Init:
    """Look at a folder of images and labels, and write a config for it that runs.

    It recognises data sets that a plugin knows, folders of images and masks, lists and annotation files; what the
    masks store, the classes and their names; sizes and channels; and pictures that are alike. Crop, batch, width and
    time are proposed for this computer, each with its reason. Where the files can be read in two ways, both are shown
    and nothing is written; --yes takes the likelier one. The status is 1 while such questions are open.
    """

    first = 0

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Folder, output and answers."""
        parser.add_argument("folder", help="where images and labels lie, in whatever way")
        parser.add_argument("-o", "--output", default="mine.toml", help="the config to write; left out: mine.toml")
        parser.add_argument("--yes", action="store_true", help="take the likelier answer to every question")
        parser.add_argument("--overwrite", action="store_true", help="replace a config that is there")
        parser.add_argument("--pictures", action="store_true", help="draw pictures beside their labels, to look at")
        document = "config (null where nothing is written), dataset, options, splits, classes, plan, questions, notes"
        add_output_options(parser, document=f"{document}, errors")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Look, ask, write, check; 1 where questions are open, 2 where a run would stop."""
        path, root = Path(arguments.output).expanduser(), Path(arguments.folder).expanduser()
        root = root.resolve() if root.name in ("", "..") else root  # "." is another folder elsewhere, and is there
        if path.suffix != ".toml":
            raise ConfigError(f"-o {path}: the name of a config ends in .toml")
        if path.exists() and root.is_dir() and not arguments.overwrite:  # of no folder, look says more
            raise ConfigError(f"{path} is there; --overwrite replaces it, and -o names another")
        from segkit_init.look import facts_of, look
        from segkit_init.plan import plan

        if sys.stderr.isatty():  # of thousands of files it takes some seconds to see
            print(f"{root}: which files are images, and which their labels?", file=sys.stderr)
        found = look(root)
        facts = facts_of(found)
        chosen = plan(facts)
        status = _answered(found, facts, chosen, path, arguments)
        if arguments.json:
            print_json(_document(found, chosen, path if status != UNANSWERED else None))
        return status


def _answered(
    found: Findings, facts: Facts, chosen: Mapping[str, Choice], path: Path, arguments: argparse.Namespace
) -> int:
    """Print what was found; write the config unless a question is open."""
    from segkit_init.text import toml

    if not arguments.quiet:
        print(_summary(found, facts))
    asked = [question for question in found.questions if question.must]
    for question in asked:
        print(_asked(question))
    if asked and not arguments.yes:
        print(*(f"error: {issue}" for issue in found.scan.errors), sep="\n", end="")
        print(f"\nNothing is written. --yes takes the first answer, and {path} will name the others.")
        return UNANSWERED
    text = toml(found, chosen, str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {reason(error)}") from error
    return _checked(path, len(facts.sizes), arguments)


def _document(found: Findings, chosen: Mapping[str, Choice], path: Path | None) -> dict[str, Any]:
    """All that is printed, as JSON holds it."""
    questions = [
        {**vars(each), "answers": [{"text": answer.text, "options": dict(answer.options)} for answer in each.answers]}
        for each in found.questions
    ]
    train = found.scan.splits["train"]
    return {
        "config": path and str(path),
        "dataset": found.dataset,
        "options": dict(found.options),
        "splits": {name: len(dataset) for name, dataset in found.scan.splits.items()},
        "classes": dict(zip(train.classes, found.scan.counts("train").shares.tolist(), strict=True)),
        "plan": {key: choice._asdict() for key, choice in chosen.items()},
        "questions": questions,
        "notes": list(found.notes),
        "errors": [issue.record() for issue in found.scan.errors],
    }


def _summary(found: Findings, facts: Facts) -> str:
    """What was recognised, a line a subject."""
    from segkit_init.plan import range_text
    from segkit_init.text import options_text

    train, shares = found.scan.splits["train"], found.scan.counts("train").shares.tolist()
    largest = sorted(zip(shares, train.classes, strict=True), reverse=True)
    layout = {key: value for key, value in found.options.items() if key not in ("classes", "value_map", "colour_map")}
    depth = "8 bits" if facts.is_8_bit else "more than 8 bits"
    rows = [
        ("data set", f"{found.dataset}: {options_text(layout)}"),
        ("pictures", ", ".join(f"{len(dataset)} {name}" for name, dataset in found.scan.splits.items())),
        ("", f"{range_text(facts.sizes)} pixels, {facts.channels} channel{'s' * (facts.channels > 1)} of {depth}"),
        ("classes", f"{len(shares)}: {first_few([f'{name} {share:.1%}' for share, name in largest], 8)}"),
        *(("note", note) for note in found.notes),
        *(("?" if "?" in each.text else "note", each.text) for each in found.questions if each.text and not each.must),
    ]
    return "\n".join(hanging(f"{title:<10}{text}", 10) for title, text in rows)


def _asked(question: Question) -> str:
    """A question with its answers, the one that --yes takes first."""
    from segkit_init.text import answer_text

    lines = [f"? {question.text}"]
    lines += [f"  {'or:   ' if place else '--yes:'} {answer_text(each)}" for place, each in enumerate(question.answers)]
    return "\n".join(hanging(line, 9) for line in lines)


def _checked(path: Path, images: int, arguments: argparse.Namespace) -> int:
    """Make the check that a run would make, and say what the run will do; 2 where it would stop."""
    check, parser = REGISTRIES["command"]["check"], argparse.ArgumentParser()
    check.add_arguments(parser)
    pictures = f"{path.with_suffix('')}_pictures"
    own = [str(path), "--quiet", *(["--pictures", pictures] if arguments.pictures else [])]
    status: int = check.run(parser.parse_args(own))
    if arguments.pictures:
        print(f"pictures: {pictures}")
    if status:
        print(f"{path} is written; a run would stop at what is named above")
        return status
    config = read_config(path)
    what = f"trains {config.model.name} on {images} images for {config.train.minutes:g} minutes"
    print(f"{path} is written; next: `segkit run {path}` {what}, and writes {config.folder}/")
    return 0
