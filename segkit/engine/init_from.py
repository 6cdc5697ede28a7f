"""Initial weights from another run or a weights file: ``train.init_from``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from segkit.data.normalise import Normalisation
from segkit.engine import checkpoint
from segkit.engine.console import Console
from segkit.engine.distributed import PROCESSES
from segkit.engine.run_folder import no_run, read_json
from segkit.errors import ModelError, RunFolderError, first_few
from segkit.model.encoder import fitting, misfits, tensors_of

FILES = ("model.safetensors", "best.pt", "last.pt")  # the best weights of a finished run, else of an unfinished one


def weights_file(place: str | Path) -> Path:
    """The file of the best weights in a run folder; a path that is not a folder is returned unchanged.

    Raises:
        RunFolderError: the folder holds no weights.
    """
    path = Path(place).expanduser()
    files = [path / name for name in FILES if (path / name).exists()]
    if path.is_dir() and not files:
        raise RunFolderError(no_run(path, f"weights ({', '.join(FILES)})"))
    return files[0] if files else path


def read_normalisation(config: Path) -> Normalisation | None:
    """The normalisation in a ``config.json``; None without the file or the entry, which old runs and others' lack.

    Raises:
        RunFolderError: the file is damaged.
    """
    record = read_json(config).get("normalisation") if config.is_file() else None
    try:
        return Normalisation.of_record(record) if record else None
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{config} is damaged: its normalisation is {record!r:.80}") from error


def init_from(model: nn.Module, place: str, chosen: Normalisation, console: Console) -> Normalisation:
    """Load all matching weights of a run folder or a file into a model; print which tensors did not match.

    Args:
        model: the model; tensors without a match keep their initial values.
        place: ``train.init_from``.
        chosen: the normalisation that the run would use without these weights.
        console: prints the messages.

    Returns:
        The normalisation that the weights were trained with, if it is stored and is for images with the same number of
        channels and type; else ``chosen``.

    Raises:
        ModelError: no layer's weights match.
        CheckpointError: the file is missing or damaged, or holds other objects than tensors and plain values.
        RunFolderError: the folder holds no weights, or its config.json is damaged.
    """

    def read() -> tuple[dict[str, Tensor], Normalisation | None]:
        file = weights_file(place)
        return tensors_of(checkpoint.load(file)), read_normalisation(file.parent / "config.json")

    tensors, stored = PROCESSES.broadcast_from_main(read)
    state = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    matching, unused = fitting(state, tensors)
    fits = {key: value for key, value in matching.items() if value.shape == state[key].shape}
    if not any(value.dim() > 1 for value in fits.values()):  # matching counters or biases alone are of no use
        problems = misfits(state, matching, [key for key in state if key not in matching], unused)
        raise ModelError(
            f"train.init_from = {place}: none of its {len(tensors)} tensors fits a layer of {type(model).__name__}: "
            f"{problems}"
        )
    model.load_state_dict(fits, strict=False)
    rest, count = [key for key in state if key not in fits], len(state)
    text = f"{len(rest)} of {count} tensors not loaded: {first_few(rest)}" if rest else f"all {count} tensors fit"
    text += f"; {len(unused)} tensors there have no place in the model: {first_few(unused)}" if unused else ""
    console.say(f"train.init_from = {place}: {text}")
    trained = replace(stored, no_data=chosen.no_data) if stored else chosen
    if (len(trained.mean), trained.dtype) == (len(chosen.mean), chosen.dtype):
        return trained
    console.say(
        f"its images had {len(trained.mean)} channels of {trained.dtype} and these have {len(chosen.mean)} of "
        f"{chosen.dtype}, so its normalisation is not used"
    )
    return chosen
