"""Map stored labels or colours of masks to class indices, from the class file and the options of ``folder``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from segkit.data.read import read_header
from segkit.data.sample import Colour
from segkit.errors import ConfigError, DataError, LabelError, did_you_mean
from segkit_folder.class_file import ClassFile
from segkit_folder.masks import read_mask

VOID = 255
VOID_NAME = "void"


def meanings_of(
    listed: ClassFile,
    masks: Sequence[Path],
    void: Sequence[int] | None = None,
    value_map: Mapping[str, int] | None = None,
    colour_map: Mapping[str, Sequence[int]] | None = None,
    threshold: float | None = None,
) -> tuple[dict[int, int] | None, dict[Colour, int] | None]:
    """Return stored label -> class index or :data:`VOID` (None: labels are indices), and the same for RGB (None: none).

    Args:
        listed: the classes; its labels or colours are used where neither map is given.
        masks: all masks; about 20 of them are opened where the class file has colours.
        void, value_map, colour_map, threshold: the options of the dataset ``folder``.

    Raises:
        ConfigError: the options contradict each other or the classes.
    """
    if colour_map is not None and threshold is not None:
        raise ConfigError("threshold and colour_map: a threshold divides greys; give one of the two")
    if listed.colours and colour_map is None and value_map is None and threshold is None:
        colour_map = _colours_of_file(listed, sorted(masks))  # the same for every split
    if colour_map is not None:
        return None, _colours(colour_map, listed.names)
    if threshold is not None and value_map is None:
        value_map = {"0": 0, str(VOID): 1}
    if void is None and value_map is None and not listed.labels:
        return None, None
    return _values(listed, (VOID,) if void is None else void, value_map), None


def _colours_of_file(listed: ClassFile, masks: Sequence[Path]) -> dict[str, Sequence[int]] | None:
    """Return the colours of the class file by class name if the masks hold these rather than labels, else None."""
    named: dict[str, Sequence[int]] = dict(zip(listed.names, listed.colours or (), strict=True))
    indices = {(r, g, b): index for index, (r, g, b) in enumerate(named.values())}
    # such as black and white; single values 0, 1 and 2 are labels, whatever the colours
    are_greys = all(len({*colour}) == 1 for colour in indices) and max(map(max, indices)) >= len(indices)
    for mask in masks[:: max(1, len(masks) // 20)]:
        with suppress(DataError):  # reported when the mask is read
            if not (are_greys or read_header(mask).has_colours):
                continue
            with suppress(LabelError):  # the mask has colours that the class file lacks
                if (read_mask(mask, indices) != indices.get((0, 0, 0), -1)).any():  # black may be label 0 as well
                    return named
            try:
                read_mask(mask)
            except LabelError as error:  # the colours are no labels stored as greys either
                if error.issue is not None and error.issue.kind == "colours":
                    return named
    return None


def _values(listed: ClassFile, void: Sequence[int], value_map: Mapping[str, int] | None) -> dict[int, int]:
    """Return the mapping stored label -> class index or :data:`VOID`."""
    values = {stored: index for index, stored in enumerate(listed.labels or range(len(listed.names)))}
    if value_map is not None:
        try:
            values = {int(stored): label for stored, label in value_map.items()}
        except ValueError:
            raise ConfigError(
                f"value_map: keys are stored labels, whole numbers; given {', '.join(value_map)}"
            ) from None
        if len(values) < len(value_map):
            raise ConfigError(f"value_map: {', '.join(value_map)}: a stored label twice; give each one once")
    for stored in void:
        if stored != VOID and values.get(stored, VOID) != VOID:
            advice = "take it out of void, or say in value_map which stored label is which class"
            raise ConfigError(f"void: {stored} is also the stored label of class {values[stored]}; {advice}")
        values.setdefault(stored, VOID)
    return values


def _colours(colour_map: Mapping[str, Sequence[int]], names: Sequence[str]) -> dict[tuple[int, int, int], int]:
    known = [*names, VOID_NAME]
    for name, colour in colour_map.items():
        if name not in known:
            raise ConfigError(f"colour_map: no class '{name}'; there are {', '.join(known)}{did_you_mean(name, known)}")
        if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
            raise ConfigError(f"colour_map: {name} = {list(colour)}; a colour is three numbers from 0 to 255")
    missing = [name for name in names if name not in colour_map]
    if missing:
        raise ConfigError(f"colour_map: no colour for {', '.join(missing)}; give every class one")
    colours = {
        (colour[0], colour[1], colour[2]): names.index(name) if name in names else VOID
        for name, colour in colour_map.items()
    }
    if len(colours) != len(colour_map):
        raise ConfigError("colour_map: two classes share a colour; each needs its own")
    return colours
