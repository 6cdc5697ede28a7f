"""Where Pascal VOC is published, and how its archives are recognised."""

from __future__ import annotations

MIRRORS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc{year}/{name}",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/{name}",  # the older address of the same university
    "https://data.pjreddie.com/files/{name}",
)
"""Tried in turn; the checksum is the same wherever a file comes from."""

_ARCHIVES = {
    "2007": (
        ("VOCtrainval_06-Nov-2007.tar", "md5:c52e279531787c972589f7e41ab4ae64", "train"),
        ("VOCtest_06-Nov-2007.tar", "md5:b6e924de25625d8de591ea690078ad9f", "test"),
    ),
    "2012": (("VOCtrainval_11-May-2012.tar", "md5:6cd6e144f989b92b3379bac3b3de84fd", "train"),),
}

YEARS = tuple(_ARCHIVES)


def archives(year: str) -> tuple[tuple[str, str, str], ...]:
    """The name of each archive of a year, its checksum (as torchvision lists it), and a split that it brings."""
    return _ARCHIVES[year]
