"""Weights that a run begins with, from another run or a file: ``train.init_from``."""

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

FILES = ("model.safetensors", "best.pt", "last.pt")  # the best weights, first of a finished run, then of one under way


def weights_file(place: str | Path) -> Path:
    """The file of the best weights in a run folder; a file, as it is.

    Raises:
        RunFolderError: the folder holds none.
    """
    path = Path(place).expanduser()
    found = [path / name for name in FILES if (path / name).exists()]
    if path.is_dir() and not found:
        raise RunFolderError(no_run(path, f"weights ({', '.join(FILES)})"))
    return found[0] if found else path


def read_donor(place: str) -> tuple[dict[str, Tensor], Normalisation | None]:
    """The weights in a run folder or a file, and the normalisation as the config.json beside them has it.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors and plain values.
        RunFolderError: the folder holds no weights, or its config.json is damaged.
    """
    file = weights_file(place)
    beside = file.parent / "config.json"
    record = read_json(beside).get("normalisation") if beside.is_file() else None
    try:
        known = Normalisation.of_record(record) if record else None
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{beside} is damaged: its normalisation is {record!r:.80}") from error
    return tensors_of(checkpoint.read(file)), known


def init_from(model: nn.Module, place: str, chosen: Normalisation, console: Console) -> Normalisation:
    """Load into a model what fits of the weights of a run folder or a file, and print which is begun anew or left out.

    Args:
        model: what does not fit stays as it is.
        place: ``train.init_from``.
        chosen: the normalisation of a run that begins without them.
        console: prints.

    Returns:
        The normalisation that the weights were trained with, where a run says it and the images have as many channels,
        of the same type; else the ``chosen`` one.

    Raises:
        ModelError: no layer's weights fit.
        CheckpointError, RunFolderError: as :func:`read_donor`.
    """
    tensors, known = PROCESSES.broadcast_from_main(lambda: read_donor(place))
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    found, unused = fitting(own, tensors)
    fits = {key: value for key, value in found.items() if value.shape == own[key].shape}
    if not any(value.dim() > 1 for value in fits.values()):  # counters and the head's bias alone are no network
        told = misfits(own, found, [key for key in own if key not in found], unused)
        raise ModelError(
            f"train.init_from = {place}: none of its {len(tensors)} tensors fits a layer of {type(model).__name__}: "
            f"{told}"
        )
    model.load_state_dict(fits, strict=False)
    anew = [key for key in own if key not in fits]
    told = f"{len(anew)} of {len(own)} tensors begun anew: {first_few(anew)}" if anew else f"all {len(own)} tensors fit"
    rest = f"; {len(unused)} tensors there have no place in the model: {first_few(unused)}" if unused else ""
    console.say(f"train.init_from = {place}: {told}{rest}")
    trained = replace(known, no_data=chosen.no_data) if known else chosen
    if (len(trained.mean), trained.dtype) == (len(chosen.mean), chosen.dtype):
        return trained
    console.say(
        f"its images had {len(trained.mean)} channels of {trained.dtype} and these have {len(chosen.mean)} of "
        f"{chosen.dtype}, so the normalisation is not taken from there"
    )
    return chosen
