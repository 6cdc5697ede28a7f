"""CVAT's exports "CVAT for images" (XML) and "Segmentation mask" (labelmap.txt and colours)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from segkit.data.sample import Colour
from segkit.errors import DataError, Issue
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, Size, box, ellipse, numbers
from segkit_annotations.files import Entry
from segkit_folder.class_file import parse
from segkit_folder.masks import read_mask
from segkit_folder.splits import read_text, split_called


class CvatDataset(AnnotatedImages):
    """CVAT's XML "for images", later shapes over earlier ones by z_order; or its export "segmentation mask".

    docs.cvat.ai/docs/other/xml_format. Polygons are drawn as pycocotools draws them, which CVAT's own export of masks
    calls too; polylines 10 pixels wide. ``annotations`` is annotations.xml, or labelmap.txt, whose colours the masks
    in SegmentationClass hold.
    """

    expected = "annotations.xml, or labelmap.txt beside SegmentationClass"

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Entry]]:
        self._colours: dict[Colour, str] = {}
        names: dict[str, None] = {}
        entries: list[Entry] = []
        for split, path in files.places(root, annotations):
            read = self._read_masks if path.suffix == ".txt" else self._read_xml
            own, found = read(root, path, images)
            names |= dict.fromkeys(own)
            entries += [entry._replace(split=entry.split or split) for entry in found]
        return [*names], entries

    def _read_masks(self, root: Path, path: Path, images: str) -> tuple[list[str], list[Entry]]:
        listed, masks, entries = parse(read_text(path), str(path)), path.parent / "SegmentationClass", []
        if not listed.colours:
            raise DataError(f"{path}: no labelmap of CVAT, whose lines are as 'cat:224,64,64::'")
        self._colours |= {(r, g, b): name for (r, g, b), name in zip(listed.colours, listed.names, strict=True)}
        lists = sorted((path.parent / "ImageSets" / "Segmentation").glob("*.txt"))
        names = {each: read_text(each).split() for each in lists} or {
            path: [m.stem for m in sorted(masks.glob("*.png"))]
        }
        for each, those in names.items():
            if outside := [name for name in those if not files.is_inside(masks / name, masks)]:
                raise DataError(f"{each}: {outside[0]!r} leads out of the data set")
            split = split_called(each.stem)
            find = files.image_finder(root, path, images, split, "JPEGImages")
            entries += [Entry(find(name), (masks / f"{name}.png",), (), None, split) for name in those]
        return listed.names, entries

    def _read_xml(self, root: Path, path: Path, images: str) -> tuple[list[str], list[Entry]]:
        try:
            tree = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError) as error:
            raise DataError(Issue("broken", str(path), "no XML, or cut short", "export it again", str(error))) from None
        entries = []
        with files.malformed(path, "CVAT for images"):
            names = [str(each.findtext("name")) for each in tree.iterfind("meta//labels/label")]
            for image in tree.iter("image"):
                subset = image.get("subset") or ""
                find = files.image_finder(root, path, images, split_called(subset), subset)
                shapes = sorted(
                    (each for each in image if each.tag != "tag"), key=lambda each: int(each.get("z_order") or 0)
                )
                size = int(image.attrib["height"]), int(image.attrib["width"])
                drawn = [_shape(each) for each in shapes]
                entries.append(Entry(find(image.attrib["name"]), (path,), drawn, size, split_called(subset)))
        return names, entries

    def _draw(self, entry: Entry, size: Size) -> NDArray[np.uint8]:
        if not self._colours:
            return super()._draw(entry, size)
        labels = read_mask(entry.sources[0], {colour: self._labels[name] for colour, name in self._colours.items()})
        self._check_size(entry, labels.shape, size)
        return labels

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        found = [path for path in files.walk(root, "labelmap.txt") if (path.parent / "SegmentationClass").is_dir()]
        return found + files.holding(root, "*.xml", ("<annotations>",))

    @classmethod
    def write_sample(cls, root: str | Path) -> None:
        """Write a miniature of a project's export: images/<split>/*.png and annotations.xml."""
        lines = [f"<label><name>{name}</name></label>" for name in ("square", "triangle")]
        lines = ["<annotations><meta><project><labels>", *lines, "</labels></project></meta>"]
        for split, drawn in files.miniature(Path(root), "images/{split}"):
            for path, objects in drawn:
                lines.append(f'<image name="{path.name}" subset="{split}" width="40" height="30">')
                for name, corners in objects:
                    lines.append(f'<polygon label="{name}" points="{";".join(f"{x},{y}" for x, y in corners)}"/>')
                lines.append("</image>")
        (Path(root) / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))


def _shape(element: ElementTree.Element) -> Shape:
    its, kind = element.attrib, element.tag
    turn = float(its.get("rotation") or 0)
    if kind in ("polygon", "polyline"):
        points = numbers([pair.split(",") for pair in its["points"].split(";")])
        return Shape(its["label"], *(("polygon", [points]) if kind == "polygon" else ("pillow", ("line", points, 2))))
    if kind in ("box", "ellipse"):
        keys = ("xtl", "ytl", "xbr", "ybr") if kind == "box" else ("cx", "cy", "rx", "ry")
        one, two, three, four = (float(its[key]) for key in keys)
        return Shape(its["label"], "polygon", [(box if kind == "box" else ellipse)(one, two, three, four, turn)])
    if kind == "mask":
        left, top, width, height = (int(its[key]) for key in ("left", "top", "width", "height"))
        counts = [int(each) for each in its["rle"].split(",")]
        return Shape(its["label"], "runs", (top, left, (height, width), counts, False))
    return Shape(its["label"], kind, None)
