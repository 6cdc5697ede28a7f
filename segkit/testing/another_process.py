"""The samples of a dataset as a new process has them: of a pickled copy, and of one that is built there."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from segkit.testing.check import CheckFailed, Subject
from segkit.testing.reading import parts, places

SECONDS = 600  # for importing torch and reading the samples, on a machine that has much else to do

Found = dict[str, dict[str, list[dict[str, str]]]]
"""Split -> how it was made -> the parts of each sample."""


def samples_there(splits: Mapping[str, Any], reader: Subject) -> Found:
    """Ask a new process, in which sets of texts have another order than here.

    Raises:
        CheckFailed: they cannot be pickled, or not be read there.
    """
    # Not multiprocessing: that would run a script anew that asks for the checks at its top.
    code = f"import sys; sys.path[:] = {sys.path!r}; from segkit.testing.another_process import answer; answer()"
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    try:
        question = pickle.dumps([(split, dataset, reader) for split, dataset in splits.items()])
    except Exception as error:
        raise CheckFailed(f"it cannot be pickled: {type(error).__name__}: {error}") from error
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=question,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise CheckFailed(f"it cannot be read in another process: {last}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def answer() -> None:
    """In that process: read the datasets pickled on the standard input, and print what is in them."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a dataset may print
    warnings.simplefilter("ignore")
    found: Found = {}
    for split, copy, reader in pickle.load(sys.stdin.buffer):
        made = {"a pickled copy": copy, "one built anew": reader.build(split=split)}
        found[split] = {
            name: [parts(dataset[index]) for _, index in places(split, dataset)] for name, dataset in made.items()
        }
    json.dump(found, out)
