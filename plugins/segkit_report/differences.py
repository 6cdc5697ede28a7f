"""What differs between the settings of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

EVERYWHERE = ("output.dir",)  # differs between any two runs, and changes nothing


def differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """``{"train.precision": ["fp32", "bf16"]}``: the keys whose values differ, one value a run, None where it is not.

    A loss or a metric goes by its name, ``loss.dice.scale``, as on the command line; a second one is ``loss.dice-2``.
    """
    flat = [dict(_flat(each)) for each in settings]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key) for each in flat] for key in keys if key not in EVERYWHERE}
    return {key: row for key, row in values.items() if any(each != row[0] for each in row)}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) and "name" in each for each in value):
        seen: Counter[str] = Counter()
        for each in value:
            seen[each["name"]] += 1
            inner = {key: option for key, option in each.items() if key != "name"}
            place = f"{path}.{each['name']}" + (f"-{seen[each['name']]}" if seen[each["name"]] > 1 else "")
            yield place, "yes"
            yield from _flat(inner, place) if inner else ()
    else:
        yield path, value
