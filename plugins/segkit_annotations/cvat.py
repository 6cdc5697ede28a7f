"""CVAT's exports "CVAT for images" (XML) and "Segmentation mask" (labelmap.txt and colours)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from segkit.data.read import read_mask
from segkit.errors import DataError, Issue
from segkit_annotations.dataset import AnnotatedImages, Rule
from segkit_annotations.draw import Region, Shape, ShapeError, Size, box, ellipse, line, numbers, polygons, runs, stored
from segkit_annotations.places import Entry, ImageFinder, head, malformed, miniature, split_named, walk
from segkit_folder.class_file import parse
from segkit_folder.splits import SUFFIXES, read_text


class CvatDataset(AnnotatedImages):
    """CVAT's XML "for images", later shapes over earlier ones by z_order; or its "segmentation mask" export.

    docs.cvat.ai/docs/other/xml_format. Polygons are drawn as pycocotools draws them, which CVAT's own export of masks
    calls too; polylines 10 pixels wide. In the other export masks hold the colours of labelmap.txt.

    Args:
        annotations: the file annotations.xml or labelmap.txt; left out: looked for.
    """

    rule: Rule = "last"
    expected = "annotations.xml, or labelmap.txt beside SegmentationClass"

    def read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        """See :meth:`AnnotatedImages.read`."""
        path = root / annotations
        self._colours: dict[tuple[int, int, int], str] = {}
        return self._read_masks(root, path, images) if path.suffix == ".txt" else self._read_xml(root, path, images)

    def _read_masks(self, root: Path, path: Path, images: str) -> tuple[list[str], list[Entry]]:
        listed = parse(read_text(path), str(path))
        if not listed.colours:
            raise DataError(f"{path}: no labelmap of CVAT, whose lines are as 'cat:224,64,64::'")
        self._colours = {
            (red, green, blue): name for (red, green, blue), name in zip(listed.colours, listed.names, strict=True)
        }
        home, entries = path.parent, []
        lists = sorted((home / "ImageSets" / "Segmentation").glob("*.txt"))
        named = {each: [line.strip() for line in read_text(each).splitlines() if line.strip()] for each in lists}
        masks = home / "SegmentationClass"
        for each, names in (named or {path: [mask.stem for mask in sorted(masks.glob("*.png"))]}).items():
            split = split_named(each.stem)
            finder = ImageFinder(root, path, images, split, "JPEGImages")
            for name in names:
                tried = [finder.find(f"{name}{suffix}") for suffix in SUFFIXES]
                image = next((found for found in tried if found.is_file()), tried[0])
                entries.append(Entry(image, (masks / f"{name}.png",), (), None, split))
        return listed.names, entries

    def _read_xml(self, root: Path, path: Path, images: str) -> tuple[list[str], list[Entry]]:
        try:
            tree = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError) as error:
            raise DataError(Issue("broken", str(path), "no XML, or cut short", "export it again", str(error))) from None
        entries = []
        with malformed(path, "CVAT for images"):
            names = [str(each.findtext("name")) for each in tree.iterfind("meta//labels/label")]
            for image in tree.iter("image"):
                subset = image.get("subset") or ""
                finder = ImageFinder(root, path, images, split_named(subset), subset)
                shapes = sorted(
                    (each for each in image if each.tag not in ("tag", "skeleton")),
                    key=lambda each: int(each.get("z_order") or 0),
                )
                size = int(image.attrib["height"]), int(image.attrib["width"])
                drawn = [_shape(each) for each in shapes]
                entries.append(Entry(finder.find(image.attrib["name"]), (path,), drawn, size, split_named(subset)))
        return names, entries

    def _draw(self, entry: Entry, size: Size) -> NDArray[np.uint8]:
        if not self._colours:
            return super()._draw(entry, size)
        labels = read_mask(entry.sources[0], {colour: self._labels[name] for colour, name in self._colours.items()})
        self._check_size(entry, labels.shape, size)
        return labels

    @classmethod
    def find(cls, root: Path) -> list[str]:
        """See :meth:`AnnotatedImages.find`."""
        found = [path for path in walk(root, "labelmap.txt") if (path.parent / "SegmentationClass").is_dir()]
        found += [
            path for path in walk(root, "*.xml") if "<annotations>" in (start := head(path)) and "<meta>" in start
        ]
        return [path.relative_to(root).as_posix() for path in found]

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature of a project's export: images/<split>/*.png and annotations.xml."""
        tree = ElementTree.Element("annotations")
        labels = ElementTree.SubElement(
            ElementTree.SubElement(ElementTree.SubElement(tree, "meta"), "project"), "labels"
        )
        for name in ("square", "triangle"):
            ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
        for split, drawn in miniature(Path(root), "images/{split}"):
            for path, objects in drawn:
                image = ElementTree.SubElement(tree, "image", name=path.name, subset=split, width="40", height="30")
                for name, corners in objects:
                    points = ";".join(f"{x},{y}" for x, y in corners)
                    ElementTree.SubElement(image, "polygon", label=name, points=points, z_order="0")
        ElementTree.ElementTree(tree).write(Path(root) / "annotations.xml", encoding="utf-8")


def _shape(element: ElementTree.Element) -> Shape:
    its, kind = element.attrib, element.tag
    if kind in ("polygon", "polyline"):
        points = numbers([pair.split(",") for pair in its["points"].split(";")])
        return Shape(its["label"], *((polygons, [points]) if kind == "polygon" else (line, points)))
    turn = float(its.get("rotation") or 0)
    if kind == "box":
        return Shape(its["label"], box, (*(float(its[key]) for key in ("xtl", "ytl", "xbr", "ybr")), turn))
    if kind == "ellipse":
        return Shape(its["label"], ellipse, (*(float(its[key]) for key in ("cx", "cy", "rx", "ry")), turn))
    if kind == "mask":
        shape = int(its["height"]), int(its["width"])
        return Shape(its["label"], _mask, (int(its["top"]), int(its["left"]), shape, its["rle"]))
    return Shape(its["label"], _without_area, kind)


def _mask(data: tuple[int, int, Size, str], size: Size) -> Region:
    """A mask in a box, in runs along the rows."""
    top, left, shape, text = data
    return stored((top, left, runs([int(each) for each in text.split(",")], shape, by_columns=False)), size)


def _without_area(kind: Any, size: Size) -> Region:
    raise ShapeError("a shape without an area", kind)
