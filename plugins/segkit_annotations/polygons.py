"""Polygons, one file per image: XML of ImageScope, ASAP, LabelMe, Pascal VOC and similar; GeoJSON, as of QuPath."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from segkit.errors import DataError, Issue
from segkit_annotations import files
from segkit_annotations.dataset import AnnotatedImages
from segkit_annotations.draw import Shape, bounds, numbers
from segkit_annotations.files import Drawn
from segkit_annotations.records import Record
from segkit_annotations.tools import is_known, records
from segkit_folder.splits import SUFFIXES, split_in

_POINTS = re.compile(r"<(vertex|coordinate|polygon|pt|point)\b|\"coordinates\"", re.IGNORECASE)
_OTHERS = re.compile(r"<annotations>|\"(_via_|shapes|categories|classTitle)")  # CVAT's and other formats
_NAMES = ("partofgroup", "label", "class", "classname", "category", "name")
_HOLE = "(hole)"
_OF_CITIES = "_polygons"  # the last word of Cityscapes' files


class PolygonsDataset(AnnotatedImages):
    """Polygons in XML or GeoJSON, or of Labelbox, Darwin and more; of overlapping shapes the smallest counts.

    A file has the name of its image, or its JSON names its images (``TOOLS`` of ``tools.py``).
    In XML a polygon is three or more points: elements with x and y as attributes or elements (ImageScope, ASAP, MIT's
    LabelMe), or x1, y1, x2, ... (Roboflow's Pascal VOC); its label is the innermost name, or the name of ImageScope's
    layer. ImageScope's negative regions are holes in the regions of their layer. In GeoJSON (RFC 7946) coordinates are
    pixels, and the label is QuPath's classification. Polygons are drawn as in COCO.
    """

    rule = "smallest"
    default_class_map: Mapping[str, str] = {_HOLE: "background", "__background__": "background"}  # the second: ISAT
    tool = "a file of polygons"
    expected = "XML or GeoJSON files with polygons, named like their images, or the JSON of a supported tool"
    miniature = "images/{split}"

    def _read(self, root: Path, annotations: str, images: str) -> tuple[list[str], list[Record]]:
        names, entries = super()._read(root, annotations, images)
        pictures: dict[str, list[Path]] = {}
        for path in files.pictures(root / images):
            for name in _names(path):
                pictures.setdefault(name, []).append(path)
        splits = [split_in(entry.sources[0].parent.relative_to(root).as_posix()) for entry in entries]
        for number, (entry, split) in enumerate(zip(entries, splits, strict=True)):
            image, path = entry.image, entry.sources[0]
            if image == path:
                called = next(filter(None, (pictures.get(stem) for stem in _stems(path))), [path.with_suffix(".png")])
                image = files.nearest(root, path, called, split)
            entries[number] = entry._replace(image=image, split=split if len({*splits}) > 1 else None)

        return [name for name in names if name != _HOLE], entries

    def _files(self, place: Path) -> list[Path]:
        return _files_in(place)

    def _records(self, path: Path, names: dict[str, None]) -> Iterator[Record]:
        if path.suffix.lower() == ".xml":
            yield _of_xml(path)
        elif is_known(files.head(path)):
            yield from records(path)
        else:
            yield Record(path, _of_geojson(path))

    @classmethod
    def _find(cls, root: Path) -> list[Path]:
        """Return the folder of the polygon files, unless it also holds the masks as pictures."""
        found = _files_in(root)
        stems = {stem for path in found for stem in _stems(path)}
        images = [path for path in files.pictures(root) if stems.intersection(_names(path))] if found else []
        called = Counter(path.stem for path in images if path.stem in stems)  # a mask may have the name of its image
        if not any(is_known(files.head(path)) and not path.stem.endswith(_OF_CITIES) for path in found) and (
            not images or files.are_masked(root, [x for x in images if called[x.stem] < 2])
        ):
            return []
        return [Path(commonpath([path.parent for path in found]))]

    @classmethod
    def _sample(cls, split: str, drawn: Sequence[Drawn]) -> Iterator[tuple[str, Any]]:
        for path, objects in drawn:
            regions = [(name, "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)) for name, corners in objects]
            layers = [f'<Annotation Name="{name}"><Region>{corners}</Region></Annotation>' for name, corners in regions]
            yield f"annotations/{split}/{path.stem}.xml", f"<Annotations>{''.join(layers)}</Annotations>"


def _files_in(folder: Path) -> list[Path]:
    """Return the polygon files in and below a folder."""
    found = [path for path in files.walk(folder, "*") if path.suffix in (".xml", ".geojson", ".json", ".ndjson")]
    heads = [(path, files.head(path)) for path in found]
    return sorted(p for p, head in heads if is_known(head) or (_POINTS.search(head) and not _OTHERS.search(head)))


def _stems(path: Path) -> list[str]:
    """Return possible stems of a file's image: 7 for 7.xml, 7.tif.xml and 7_gt_polygons.json, but 7.2 for 7.2.xml."""
    inner = Path(path.stem)
    is_picture = inner.suffix[1:].isalpha() or inner.suffix.lower() in SUFFIXES
    parts = path.stem.rsplit("_", 2) if path.stem.endswith(_OF_CITIES) else []
    return [path.stem, *([inner.stem] if is_picture else []), *(f"{part}_*" for part in parts[:1])]


def _names(image: Path) -> tuple[str, ...]:
    """Return the stems of polygon files that an image may belong to, with _* for those such as x_gt_polygons.json."""
    return image.stem, f"{image.stem}_*", f"{image.stem.rpartition('_')[0]}_*"


def _of_xml(path: Path) -> Record:
    """Return the shapes, and the size of the image if the file gives one."""
    tree = files.load(path)
    texts = {_tag(each): (each.text or "").strip() for each in tree.iter()}
    sizes = {tag: int(text) for tag, text in texts.items() if text.isdecimal()}
    height, width = (sizes.get(one) or sizes.get(other) for one, other in (("height", "nrows"), ("width", "ncols")))
    return Record(path, [*_shapes(tree, "object")], (height, width) if height and width else None)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _shapes(element: ElementTree.Element, label: str) -> Iterator[Shape]:
    """Yield the polygons in an element, each with the label of the innermost element that has one."""
    its = {key.lower(): value.strip() for key, value in element.attrib.items()}
    below = {_tag(each): (each.text or "").strip() for each in element}
    if below.get("deleted") == "1":  # a deleted object of LabelMe
        return
    label = next((held[key] for held in (its, below) for key in _NAMES if held.get(key)), label)
    if _tag(element) == "annotation" and not its.get("name"):  # a layer of ImageScope
        layer = [each.get("Value") or each.get("Name") or "" for each in element.iterfind("Attributes/Attribute")]
        label = next((text for text in layer if text not in ("", "Description")), label)
        label = f"layer {its['id']}" if label == "object" and its.get("id", "1") > "1" else label
    label = "object" if its.get("partofgroup") == "None" else label  # an ASAP annotation without a group
    if points := _points(element, below):
        yield Shape(_HOLE if its.get("negativeroa") == "1" else label, "polygon", [numbers(points)])
        return
    inside = [shape for each in element for shape in _shapes(each, label)]
    if its.get("negativeroa") == "1":
        inside = [each._replace(label=_HOLE) for each in inside]
    yield from _with_holes(inside) if _tag(element) == "annotation" else inside
    if _tag(element) == "object" and not inside:
        yield Shape(label, "a box alone", None)


def _with_holes(shapes: Sequence[Shape]) -> Iterator[Shape]:
    """Cut a layer's holes out of the polygons around them, so that other layers show through."""
    boxes = {id(each): bounds(each.data) for each in shapes if each.kind == "polygon"}
    holes = [(each, box) for each in shapes if each.label == _HOLE and (box := boxes.get(id(each)))]
    for each in shapes:
        if each.label != _HOLE and (own := boxes.get(id(each))):
            inside = [
                hole.data[0]
                for hole, box in holes
                if own[0] <= box[0] and own[1] <= box[1] and box[2] <= own[2] and box[3] <= own[3]
            ]
            yield each._replace(kind="less", data=[*each.data, *inside]) if inside else each
        elif each.label != _HOLE:
            yield each


def _points(element: ElementTree.Element, below: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the points that an element itself holds."""
    if "x1" in below:
        count = sum(re.fullmatch(r"x\d+", each) is not None for each in below)
        return [(below[f"x{number}"], below[f"y{number}"]) for number in range(1, count + 1)]
    held = [{key.lower(): value for key, value in each.attrib.items()} for each in element]
    held += [{_tag(child): child.text or "" for child in each} for each in element]
    return [(each["x"], each["y"]) for each in held if {"x", "y"} <= {*each}]


def _of_geojson(path: Path) -> list[Shape]:
    content = files.load(path)
    features = content if isinstance(content, list) else content.get("features", [content])
    shapes = []
    for feature in features:
        its = {key.lower(): value for key, value in (feature.get("properties") or {}).items()}
        named = its.get("classification") or next((its[key] for key in _NAMES if its.get(key)), "object")
        label = str(named["name"] if isinstance(named, dict) else named)
        shapes += _of_geometry(feature["geometry"], label)
    boxes = [box for each in shapes if each.kind == "rings" and (box := bounds(each.data))]
    in_degrees = bool(boxes) and all(box[2] - box[0] < 1 and box[3] - box[1] < 1 for box in boxes)  # below one pixel
    in_degrees = in_degrees and any(not 0 <= each <= 1 for box in boxes for each in box)
    if in_degrees or (isinstance(content, dict) and "crs" in content):
        what, advice = "shapes in geographic coordinates", "draw them into masks with rasterio.features.rasterize"
        raise DataError(Issue("georeferenced", str(path), what, advice))
    if boxes and all(box[1] < 0 and box[3] <= 0 for box in boxes):
        what, advice = "shapes above the image: y points upwards", "write y as pixels below the image's upper edge"
        raise DataError(Issue("upwards", str(path), what, advice, f"y {min(box[1] for box in boxes):g} and more"))
    return shapes


def _of_geometry(geometry: Mapping[str, Any] | None, label: str) -> list[Shape]:
    """Return the shapes of a geometry, which may be null (RFC 7946, 3.2), without the third coordinate."""
    kind = geometry["type"] if geometry else "GeometryCollection"
    if kind == "GeometryCollection":
        inside = geometry["geometries"] if geometry else []
        return [shape for each in inside for shape in _of_geometry(each, label)]
    if geometry is None or kind not in ("Polygon", "MultiPolygon"):
        return [Shape(label, kind, None)]
    parts = geometry["coordinates"] if kind == "MultiPolygon" else [geometry["coordinates"]]
    rings = [[numbers([corner[:2] for corner in ring]) for ring in each] for each in parts]
    return [Shape(label, "rings", each) for each in rings if each]
