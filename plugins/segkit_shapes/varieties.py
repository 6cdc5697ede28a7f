"""The varieties of ``shapes``: few classes that train in a minute, many that are hard to learn."""

from __future__ import annotations

from typing import NamedTuple


class Variety(NamedTuple):
    """What the pictures of one variety have in common.

    Attributes:
        classes: background and the names of the outlines.
        shares: how many of 100 objects are of each class but the background.
        objects: how many are tried at least, and one more than at most.
        alike: how many of 100, the first aside, are background: of a class's outline and colour, but without its grain.
        radius: of the objects, from and to, in thousandths of the picture's size.
        turns: how far they are turned, from and to, in 64ths of a full turn.
        colours: of each class; where there are none, any colour goes with any class.
        smallest: size of a picture in pixels; in less no two shapes can be told apart.
    """

    classes: tuple[str, ...]
    shares: tuple[int, ...]
    objects: tuple[int, int]
    radius: tuple[int, int]
    turns: tuple[int, int]
    colours: tuple[tuple[int, int, int], ...]
    alike: int
    smallest: int


FEW = Variety(
    classes=("background", "disc", "square", "triangle", "cross", "ring"),
    shares=(25, 22, 21, 19, 13),  # rings are rare, as some class always is
    objects=(2, 6),
    radius=(130, 180),
    turns=(0, 64),
    colours=(),
    alike=0,
    smallest=32,
)
MANY = Variety(
    classes=(
        *("background", "disc", "square", "triangle", "cross", "ring", "ellipse"),
        *("bar", "star", "crescent", "angle", "tee", "arrow"),
    ),
    shares=(14, 12, 11, 10, 9, 9, 8, 7, 6, 5, 5, 4),
    objects=(6, 13),
    radius=(86, 112),
    turns=(-4, 5),  # nearly upright: a dozen outlines are to be learnt from a few objects each
    colours=(
        *((200, 40, 40), (40, 180, 60), (50, 70, 220), (210, 190, 40), (190, 50, 190), (50, 190, 190)),
        *((230, 120, 30), (120, 60, 20), (130, 110, 230), (110, 230, 110), (240, 150, 180), (20, 90, 90)),
    ),
    alike=90,  # three of four, with the first that never is: "background" is the likelier guess for each of them
    smallest=96,
)

VARIETIES = {"few": FEW, "many": MANY}
