"""Options: read from the signature, checked against it, and built; a first sentence is read without an import."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from segkit.errors import ConfigError, ModelError, PluginError
from segkit.options import Option, create, options_of, read_options, without_pretrained
from segkit.registry import Component
from segkit_inspect.describe import descriptions, summary, type_text

Make = Callable[..., Component]


def check_options(component: Component, options: dict[str, Any], where: str) -> list[str]:
    return read_options(component, options, where)[1]


THING = '''
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    WIDTH = 64
    ONE: int = 1

    class Thing:
        """A thing by Lee et al. Many parts, e.g. Two. Nothing else.

        More about it.

        Args:
            width: channels at full
                resolution.
            mode (str): how.

        Raises:
            ModelError: never.
        """

        def __init__(
            self,
            num_classes: int,
            root: str | Path,
            width: int = WIDTH,
            share: float = -0.5,
            mode: Literal["same", "valid"] | None = "same",
            class_weights: Sequence[float] | None = None,
            *,
            on: bool = True,
            size: tuple[int, int] = (ONE, 2),
            values: dict[int, int] | None = None,
        ) -> None:
            self.given = dict(locals())
            if width == 13:
                raise ValueError("13 is unlucky")
'''
WORKING = THING + "\n        def __call__(self): ...\n"


def options(component: Component) -> dict[str, Option]:
    return {option.name: option for option in options_of(component)}


def test_the_signature_and_the_docstring_tell_all(component: Make) -> None:
    thing = component(THING)
    assert summary(thing) == "A thing by Lee et al. Many parts, e.g. Two"
    found = options(thing)
    assert found["num_classes"] == Option("num_classes", int, None, given=True, required=True)
    assert found["width"] == Option("width", int, 64, given=False, required=False)
    assert descriptions(thing.load()) == {"width": "channels at full resolution.", "mode": "how."}
    assert type_text(found["mode"].hint) == "Literal['same', 'valid'] | None"
    assert found["mode"].hint == Literal["same", "valid"] | None
    assert [type_text(found[name].hint) for name in ("root", "values")] == ["str | Path", "dict[int, int] | None"]
    assert found["share"].default == -0.5
    assert found["size"].default == (1, 2)
    assert found["root"].required


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("width", "abc", "should be a valid integer"),
        ("width", True, "should be a valid integer"),
        ("width", 6.0, "should be a valid integer"),
        ("share", "1", "should be a valid number"),
        ("share", False, "should be a valid number"),
        ("mode", "vlaid", "should be 'same' or 'valid'; did you mean 'valid'?"),
        ("on", 1, "should be a valid boolean"),
        ("size", [1, 2, 3], "Tuple should have at most 2 items after validation, not 3"),
        ("root", 5.5, "should be a valid string"),
        ("root", True, "should be a valid string"),
        (
            "class_weights",
            "median_freq",
            "should be 'median_frequency', 'sqrt_median_frequency', 'inverse' or 'effective_number', or should be a "
            "valid list; did you mean 'median_frequency'?",
        ),
        ("class_weights", [1, "a"], "should be 'median_frequency', 'sqrt_median_frequency', 'inverse' or"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_what_is_allowed(
    component: Make, name: str, value: object, allowed: str
) -> None:
    (problem,) = check_options(component(THING), {"root": "data", name: value}, "model")
    assert problem.startswith(f"model.{name} = {value!r}: {allowed}")


@pytest.mark.parametrize(
    ("name", "value", "built"),
    [
        ("share", 1, 1.0),
        ("size", [3, 4], (3, 4)),
        ("values", {"0": 0, "255": 1}, {0: 0, 255: 1}),
        ("class_weights", [1, 2.5], [1.0, 2.5]),
        ("mode", "valid", "valid"),
        ("root", "data", "data"),
        ("root", 5, "5"),
    ],
)
def test_a_toml_value_becomes_what_the_annotation_says(
    component: Make, name: str, value: object, built: object
) -> None:
    thing = component(WORKING)
    chosen = {"root": "x", name: value}
    assert check_options(thing, chosen, "model") == []
    made = create(thing, chosen, {"num_classes": 3, "classes": ("a", "b", "c")})
    assert made.given[name] == built
    assert type(made.given[name]) is type(built)
    assert made.given["num_classes"] == 3


def test_all_problems_of_a_table_are_told_together(component: Make) -> None:
    problems = check_options(component(THING), {"widht": 3, "num_classes": 2, "on": "yes"}, "model")
    assert problems == [
        "model.root is needed; `show loss thing` describes it",
        "model.on = 'yes': should be a valid boolean",
        "model.widht: thing has no such key; did you mean 'width'?",
        "model.num_classes is given by segkit and cannot be set; remove it",
    ]
    settable = "root, width, share, mode, class_weights, on, size, values, scale"  # it is a loss
    (problem,) = check_options(component(THING), {"root": "x", "zzz": 3}, "model")
    assert problem == f"model.zzz: thing has no such key; there are {settable}"


def test_formulas_stand_for_class_weights_alone(component: Make) -> None:
    thing = component(THING)
    assert check_options(thing, {"root": "x", "class_weights": "inverse"}, "loss") == []
    assert check_options(thing, {"root": "x", "mode": "inverse"}, "loss") != []


def test_a_datasets_split_is_given_and_its_classes_are_an_option(component: Make) -> None:
    source = "class Thing:\n    def __init__(self, root: str, split: str, classes: list[str]): ...\n"
    thing = component(source, kind="dataset")
    assert [option.name for option in options(thing).values() if option.given] == ["split"]
    (problem,) = check_options(thing, {"root": "x", "split": "val", "classes": ["a"]}, "dataset")
    assert problem == "dataset.split is given by segkit and cannot be set; remove it"


def test_a_constructor_may_be_inherited_from_another_module(component: Make, site: Any) -> None:
    site.module(
        "thing_base",
        'class Base:\n    """B.\n\n    Args:\n        size: how big.\n    """\n'
        "    def __init__(self, num_classes: int, size: int = 3): ...\n",
    )
    site.module("thing_package/__init__", "from .inner import Renamed as Thing\n")
    site.module("thing_package/inner", 'from thing_base import Base\nclass Renamed(Base):\n    """R."""\n')
    thing = Component("loss", "thing", "thing_package:Thing", "things", "segkit-things", "1.5")
    assert options(thing)["size"] == Option("size", int, 3, given=False, required=False)
    assert descriptions(thing.load()) == {"size": "how big."}
    assert summary(thing) == "R"


def test_a_function_is_a_component_too(component: Make) -> None:
    source = "def Thing(num_classes: int, rate: float = 0.5, **others: int):\n    return lambda: (num_classes, rate)\n"
    thing = component(source)
    assert check_options(thing, {"rate": 1}, "model") == []
    assert "model.others: thing has no such key" in check_options(thing, {"others": 1}, "model")[0]
    assert create(thing, {"rate": 1}, {"num_classes": 2})() == (2, 1.0)


@pytest.mark.parametrize(
    "source",
    [
        "import dataclasses\nclass Base:\n    def __init__(self, wrong: int): ...\n"
        "@dataclasses.dataclass\nclass Thing(Base):\n    rate: float = 0.25\n",
        "import math\nclass Thing:\n    def __init__(self, rate: float = math.sqrt(0.0625)): ...\n",
        "class Root:\n    def __init__(self, wrong: int): ...\n"
        "class Left(Root): ...\nclass Right(Root):\n    def __init__(self, rate: float = 0.25): ...\n"
        "class Thing(Left, Right): ...\n",
        "exec('class Thing:\\n    def __init__(self, rate: float = 0.25): ...')\n",
    ],
    ids=["dataclass", "computed default", "two bases", "generated"],
)
def test_options_are_those_of_the_constructor_that_is_called(component: Make, source: str) -> None:
    thing = component(source)
    assert options(thing)["rate"].default == 0.25
    assert check_options(thing, {"rate": 1}, "loss") == []
    assert check_options(thing, {"rate": "fast"}, "loss") == ["loss.rate = 'fast': should be a valid number"]


def test_a_type_that_a_module_names_itself_is_looked_up(component: Make) -> None:
    source = """
        from typing import Literal
        Mode = Literal["a", "b"]
        class Thing:
            def __init__(self, mode: Mode = "a"): ...
    """
    (problem,) = check_options(component(source), {"mode": "c"}, "loss")
    assert problem == "loss.mode = 'c': should be 'a' or 'b'"


def test_a_component_that_is_not_there_is_a_problem_among_the_others(component: Make) -> None:
    gone = Component("loss", "thing", "no_such_module:Thing", "things", "segkit-things", "1.5")
    (problem,) = check_options(gone, {"x": 1}, "loss")
    assert problem.startswith("loss: loss 'thing' of plugin 'things' (segkit-things 1.5) cannot be imported")
    assert summary(gone) == ""
    with pytest.raises(PluginError):
        create(gone, {}, {})


def test_a_refusal_of_the_constructor_names_component_and_options(component: Make) -> None:
    thing = component(WORKING, kind="model")
    who = r"^model 'thing' of plugin 'things' \(segkit-things 1.5\)"
    where = r"\(.*thing_module\.py, line \d+\)$"
    with pytest.raises(ConfigError, match=rf"{who} refuses root='x', width=13: ValueError: 13 is unlucky {where}"):
        create(thing, {"root": "x", "width": 13}, {"num_classes": 2})
    with pytest.raises(ConfigError, match=rf"{who} refuses root='x': TypeError: .*missing.*'num_classes'"):
        create(thing, {"root": "x"}, {})
    with pytest.raises(ConfigError, match=r"^thing\.width = 'abc': should be a valid integer"):
        create(thing, {"root": "x", "width": "abc"}, {"num_classes": 2})


def test_an_error_that_a_component_raises_on_purpose_is_left_alone(component: Make) -> None:
    source = (
        "from segkit.errors import ModelError\nclass Thing:\n    def __init__(self): raise ModelError('too deep')\n"
    )
    with pytest.raises(ModelError, match=r"^too deep$"):
        create(component(source), {}, {})


def test_paths_are_converted(component: Make) -> None:
    thing = component(
        "from pathlib import Path\nclass Thing:\n    def __init__(self, root: Path): self.root = root\n"
        "    def __call__(self): ...\n"
    )
    assert create(thing, {"root": "a/b"}, {}).root == Path("a/b")


def test_source_that_a_program_wrote_stops_nobody(component: Make) -> None:
    thing = component(f"class Thing:\n    ...\nX = {'+'.join(['1'] * 5000)}\n")
    assert summary(thing) == ""
    assert "RecursionError" in check_options(thing, {}, "here")[0]


def test_a_default_that_is_no_literal_is_imported_and_told(component: Make) -> None:
    thing = component("class Thing:\n    def __init__(self, a: dict = {[1]: 2}): ...\n")
    (told,) = check_options(thing, {}, "here")
    assert "cannot be imported" in told
    assert "TypeError: unhashable type" in told


@pytest.mark.parametrize("source", ["Thing = 5\n", "Thing = None\n"])
def test_a_place_where_no_class_is_is_told(component: Make, source: str) -> None:
    (told,) = check_options(component(source), {}, "here")
    assert re.search(r"has no readable signature: TypeError: (5|None) is not a callable object", told)


def test_a_docstring_may_be_anything(component: Make) -> None:
    source = "class Thing:\n    __doc__ = property(lambda self: 'x')\n    def __init__(self, a: int = len('')): ...\n"
    assert options(component(source))["a"].default == 0
    assert summary(component(source)) == ""


def test_an_iterable_arrives_as_a_list(component: Make) -> None:
    source = """
        from collections import abc
        from collections.abc import Iterable
        class Thing:
            def __init__(self, a: Iterable[int] = (), b: abc.Iterable[int] = ()): self.given = [a, b]
            def __call__(self): ...
    """
    assert create(component(source), {"a": [1, 2], "b": [3]}, {}).given == [[1, 2], [3]]
    for name, wrong in (("a", ["x"]), ("a", "12"), ("b", ["x"])):
        (told,) = check_options(component(source), {name: wrong}, "here")
        assert f"here.{name} = {wrong!r}: should be a valid" in told


def test_a_hint_that_nobody_can_resolve_leaves_the_others_checked(component: Make) -> None:
    source = """
        from typing import Annotated, Literal
        from pydantic import Field
        Mode = Literal["a", "b"]
        class Thing:
            def __init__(self, a: Mode = "a", n: Annotated[int, Field(gt=0)] = 1, u: "Undefined" = 1): ...
    """
    assert "here.a = 1.5: should be 'a' or 'b'" in check_options(component(source), {"a": 1.5}, "here")[0]
    assert "should be greater than 0" in check_options(component(source), {"n": -1}, "here")[0]
    assert check_options(component(source), {"a": "b", "n": 2, "u": [1, {"x": 2.5}]}, "here") == []


def test_an_object_that_no_file_can_hold_is_refused_by_name(component: Make) -> None:
    source = "class Thing:\n    def __init__(self, a: int, b: object = None, c: int = 1): ...\n"
    told = check_options(component(source), {"a": object, "b": "x", "c": "y"}, "here")
    assert told[0].startswith("here.a = <class 'object'>: TOML has no such value (Unable to serialize unknown type")
    assert told[1:] == ["here.c = 'y': should be a valid integer"]


def test_of_two_definitions_the_last_one_counts_and_a_decorated_one_is_imported(component: Make) -> None:
    twice = (
        "class Thing:\n    def __init__(self, a: int = 1): ...\nclass Thing:\n    def __init__(self, b: int = 1): ...\n"
    )
    assert list(options(component(twice))) == ["b"]
    source = """
        import functools
        def fixed(function):
            def wrapper(self, b: int = 2): function(self, 1)
            return wrapper
        class Thing:
            @fixed
            def __init__(self, a): ...
    """
    assert list(options(component(source, module="decorated_module"))) == ["b"]
    source = "class Thing:\n    def __init__(self, a: int = 1): ...\nclass Other:\n"
    source += "    def __init__(self, c: int = 1): ...\nThing = Other\n"
    assert list(options(component(source, module="renamed_module"))) == ["c"]


def test_the_first_sentence_of_every_bundled_component_is_read_without_torch() -> None:
    code = (
        "import sys, segkit.registry as r\nfrom segkit_inspect.describe import summary\n"
        "for registry in r.REGISTRIES.values():\n"
        "    for component in registry.components():\n"
        "        assert summary(component), component\n"
        "        assert not {'torch', 'numpy'} & set(sys.modules), component\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_member_of_an_enum_is_given_by_its_name(component: Make) -> None:
    source = """
        import enum
        class Weights(enum.Enum):
            BEST = object()
        class Thing:
            def __init__(self, weights: Weights | None = Weights.BEST): self.weights = weights
            def __call__(self): ...
    """
    thing = component(source)
    assert create(thing, {"weights": "BEST"}, {}).weights is thing.load()().weights
    assert create(thing, {"weights": None}, {}).weights is None
    assert check_options(thing, {"weights": "none"}, "here") == []
    (told,) = check_options(thing, {"weights": "BSET"}, "here")
    assert told == "here.weights = 'BSET': should be 'BEST'; did you mean 'BEST'?"


def test_pretrained_weights_are_left_out_where_a_checkpoint_replaces_them(component: Make) -> None:
    source = """
        class Thing:
            def __init__(
                self, width: int = 3, weights: str = "best", weights_backbone: str | None = "imagenet"
            ) -> None: ...
    """
    chosen = {"width": 4, "weights": "own", "weights_backbone": "own"}
    assert without_pretrained(component(source), chosen) == {"width": 4, "weights_backbone": None}
    assert without_pretrained(component(source), {}) == {"weights_backbone": None}
