"""Files of areas: CSV, COCO JSON, VIA JSON (2 and 3) and CVAT for video XML."""

import csv
import itertools
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stavis.areas.area import Area, FloatArray, KeyFrame, rectangle
from stavis.errors import StavisError, printable

AREA_FORMATS = ("CSV", "COCO JSON", "VIA JSON", "CVAT for video XML")
ELLIPSE_CORNERS = 32
_NAME_KEYS = ("name", "label", "class", "type")


class _Shapes:
    """Key frames by area while a file is read."""

    def __init__(self, unit: Literal["frame", "seconds"]) -> None:
        self.unit = unit
        self.keys: dict[str, dict[float, FloatArray | None]] = {}

    def add(self, name: str, position: float, points: FloatArray | None) -> None:
        keys = self.keys.setdefault(name, {})
        if position in keys:
            where = "" if position == -math.inf else f" at {self.unit.removesuffix('s')} {position:.12g}"
            raise ValueError(f"area {name!r} has two shapes{where}; areas need names of their own")
        keys[position] = points

    def add_nth(self, name: str, position: float, points: FloatArray) -> None:
        """Adds one of several areas of one name: the n-th of them at each position is taken as one area."""
        numbered = name
        for number in itertools.count(2):
            if position not in self.keys.get(numbered, {}):
                break
            numbered = f"{name} {number}"
        self.add(numbered, position, points)

    def hide_elsewhere(self, positions: Iterable[float]) -> None:
        """Hides each area at those positions at which others are listed and it is not."""
        for keys in self.keys.values():
            for position in positions:
                keys.setdefault(position, None)

    def areas(self, scale: tuple[float, float]) -> list[Area]:
        """The areas with coordinates multiplied by `scale`. An area with one key frame without a place never moves."""
        return [
            Area(
                printable(name.encode("utf-8", "replace").decode()),  # JSON may hold halves of characters
                tuple(
                    KeyFrame(position, None if points is None else points * scale)
                    for position, points in sorted(keys.items(), key=lambda item: item[0])
                ),
                self.unit,
            )
            for name, keys in self.keys.items()
        ]


def read_areas(path: str | Path, size: tuple[int, int]) -> list[Area]:
    """Reads the areas of a video.

    Coordinates are pixels of the picture as displayed. Where the file says that it was drawn on another size
    of the same picture, they are scaled.

    Args:
        path: `.csv`, `.json` (COCO, VIA 2 or VIA 3) or `.xml` (CVAT for video); docs/areas.md describes them.
        size: (width, height) of the video in pixels.

    Raises:
        StavisError: The file cannot be read, is of none of these formats, or an area is never inside the picture.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise StavisError(f"{path}: no such file of areas") from None
    except UnicodeDecodeError:
        raise StavisError(f"{path}: not UTF-8 text; known formats: {', '.join(AREA_FORMATS)}") from None
    try:
        shapes, drawn_on = _parse(path, text)
    except StavisError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, ET.ParseError) as error:
        raise StavisError(f"{path}: cannot be read as areas: {type(error).__name__}: {error}") from None
    scale = (1.0, 1.0) if drawn_on is None else (size[0] / drawn_on[0], size[1] / drawn_on[1])
    areas = shapes.areas(scale)
    if not areas:
        raise StavisError(f"{path}: has no areas")
    for area in areas:
        _check(path, area, size)
    return areas


def _parse(path: Path, text: str) -> tuple[_Shapes, tuple[float, float] | None]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _read_csv(path, text), None
    if suffix == ".xml":
        return _read_cvat(path, text)
    if suffix == ".json":
        content = json.loads(text)
        if isinstance(content, dict) and "annotations" in content and "images" in content:
            return _read_coco(content)
        if isinstance(content, dict) and isinstance(content.get("metadata"), dict) and "file" in content:
            return _read_via3(content)
        if isinstance(content, dict):
            entries = content.get("_via_img_metadata", content)
            if entries and all(isinstance(one, dict) and "regions" in one for one in entries.values()):
                return _read_via2(list(entries.values())), None
    raise StavisError(
        f"{path}: of no known format of areas; known are {', '.join(AREA_FORMATS)} (docs/areas.md)"
    )


def _check(path: Path, area: Area, size: tuple[int, int]) -> None:
    shapes = [key.points for key in area.keys if key.points is not None]
    if not shapes:
        raise StavisError(f"{path}: area {area.name!r} is hidden in all of its key frames")
    for points in shapes:
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
            raise StavisError(
                f"{path}: area {area.name!r} has a shape that is not a polygon of 3 or more corners"
            )
    if not any(
        (points.max(axis=0) > 0).all()
        and (points.min(axis=0) < size).all()
        and (np.ptp(points, axis=0) > 0).all()
        for points in shapes
    ):
        corners = [points.min(axis=0).tolist() for points in shapes]
        raise StavisError(
            f"{path}: area {area.name!r} is never inside the picture of {size[0]}x{size[1]} (top left at {corners[0]})"
        )


# --- CSV --------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, text: str) -> _Shapes:
    rows = list(csv.DictReader(text.splitlines()))
    columns = set(rows[0]) if rows else set()
    if "area" not in columns or not ({"x", "y", "width", "height"} <= columns or "points" in columns):
        raise StavisError(
            f"{path}: columns are {', '.join(map(str, columns)) or 'none'}; needed are area and x, y, width, height "
            "(or points), and frame or time_seconds where areas move"
        )
    shapes = _Shapes("seconds" if "time_seconds" in columns else "frame")
    column = "time_seconds" if shapes.unit == "seconds" else "frame"
    for number, row in enumerate(rows, start=2):
        try:
            text_position = (row.get(column) or "").strip()
            position = float(text_position) if text_position else -math.inf
            if (row.get("points") or "").strip():
                points: FloatArray | None = _numbers(row["points"])
            elif (row.get("x") or "").strip():
                points = rectangle(*(float(row[name]) for name in ("x", "y", "width", "height")))
            else:
                points = None
            shapes.add(row["area"] or "", position, points)
        except (ValueError, TypeError) as error:
            raise StavisError(f"{path}: line {number}: {error}") from None
    return shapes


def _numbers(text: str) -> FloatArray:
    """(K, 2) from "x,y;x,y" or any other list of numbers."""
    values = [float(part) for part in re.split(r"[\s,;]+", text.strip())]
    if len(values) % 2:
        raise ValueError(f"an odd number of coordinates: {text!r}")
    return np.array(values).reshape(-1, 2)


# --- COCO -------------------------------------------------------------------------------------------------------------


def _read_coco(content: dict[str, Any]) -> tuple[_Shapes, tuple[float, float] | None]:
    images = {image["id"]: image for image in content["images"]}
    categories = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
    positions = {
        key: -math.inf if len(images) == 1 else _frame_of(image, str(image.get("file_name", "")))
        for key, image in images.items()
    }
    shapes = _Shapes("frame")
    for annotation in content["annotations"]:
        category = categories.get(annotation["category_id"], f"category {annotation['category_id']}")
        attributes = annotation.get("attributes") or {}
        track = annotation.get("track_id", annotation.get("instance_id", attributes.get("track_id")))
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list) and segmentation:
            # Of several parts the largest counts.
            parts = [np.array(part, float).reshape(-1, 2) for part in segmentation]
            points = max(parts, key=_polygon_area)
        else:
            points = rectangle(*annotation["bbox"])
        position = positions[annotation["image_id"]]
        if track is None:
            shapes.add_nth(category, position, points)
        else:
            shapes.add(f"{category} {track}", position, points)
    shapes.hide_elsewhere(positions.values())
    first: dict[str, Any] = next(iter(images.values()), {})
    size = (first.get("width"), first.get("height"))
    return shapes, _size(*size) if all(size) else None


def _frame_of(entry: dict[str, Any], file_name: str) -> float:
    """The frame of an image: as an entry says, else the last number in its file's name."""
    for key in ("frame_index", "frame_id", "frame"):
        if key in entry:
            return float(entry[key])
    match = re.search(r"(\d+)\D*$", Path(file_name).stem)
    if match is None:
        raise ValueError(f"image {file_name!r} does not say which frame it is")
    return float(match[1])


def _size(width: Any, height: Any) -> tuple[float, float]:
    """The size in pixels of the picture that a file says it was drawn on."""
    size = float(width), float(height)
    if not all(0 < length < math.inf for length in size):
        raise ValueError(f"drawn on a picture of {width}x{height} pixels; both must be above 0")
    return size


def _polygon_area(points: FloatArray) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


# --- VIA --------------------------------------------------------------------------------------------------------------


def _read_via2(entries: list[dict[str, Any]]) -> _Shapes:
    shapes = _Shapes("frame")
    positions = []
    for entry in entries:
        position = -math.inf if len(entries) == 1 else _frame_of({}, entry["filename"])
        positions.append(position)
        regions = entry["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        for number, region in enumerate(regions, start=1):
            attributes = region.get("region_attributes") or {}
            values = [attributes.get(key) for key in _NAME_KEYS] + list(attributes.values())
            name = next((str(value) for value in values if value), f"area {number}")
            shapes.add_nth(name, position, _via2_shape(region["shape_attributes"]))
    shapes.hide_elsewhere(positions)
    return shapes


def _via2_shape(shape: dict[str, Any]) -> FloatArray:
    kind = shape["name"]
    if kind == "rect":
        return rectangle(shape["x"], shape["y"], shape["width"], shape["height"])
    if kind in ("polygon", "polyline"):
        return np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1).astype(float)
    if kind in ("circle", "ellipse"):
        radii = (shape["r"],) * 2 if kind == "circle" else (shape["rx"], shape["ry"])
        return _ellipse(shape["cx"], shape["cy"], *radii)
    raise ValueError(f"shape {kind!r} has no area")


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> FloatArray:
    angles = np.arange(ELLIPSE_CORNERS) / ELLIPSE_CORNERS * 2 * np.pi
    # Corners lie outside, so that the polygon has the ellipse's area.
    grow = math.sqrt(2 * math.pi / ELLIPSE_CORNERS / math.sin(2 * math.pi / ELLIPSE_CORNERS))
    return np.stack([x + grow * radius_x * np.cos(angles), y + grow * radius_y * np.sin(angles)], axis=1)


_VIA3_SHAPES: dict[int, Callable[[list[float]], FloatArray]] = {
    2: lambda v: rectangle(*v),
    3: lambda v: _ellipse(v[0], v[1], v[2], v[2]),
    4: lambda v: _ellipse(*v),
    6: lambda v: np.array(v, float).reshape(-1, 2),
    7: lambda v: np.array(v, float).reshape(-1, 2),
}
"""VIA 3 numbers its shapes: rectangle, circle, ellipse, polyline, polygon."""


def _read_via3(content: dict[str, Any]) -> tuple[_Shapes, tuple[float, float] | None]:
    shapes = _Shapes("seconds")
    options = {key: entry.get("options") or {} for key, entry in (content.get("attribute") or {}).items()}
    entries = [entry for entry in content["metadata"].values() if entry.get("xy")]
    fixed = all(not entry.get("z") for entry in entries)
    for number, entry in enumerate(entries, start=1):
        shape, *values = entry["xy"]
        if shape not in _VIA3_SHAPES:
            continue  # points and lines have no area
        named = [options.get(key, {}).get(value, value) for key, value in (entry.get("av") or {}).items()]
        name = next((str(value) for value in named if value), f"area {number}")
        shapes.add_nth(name, -math.inf if fixed else float(entry["z"][0]), _VIA3_SHAPES[shape](values))
    return shapes, None


# --- CVAT -------------------------------------------------------------------------------------------------------------


def _read_cvat(path: Path, text: str) -> tuple[_Shapes, tuple[float, float] | None]:
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise StavisError(f"{path}: declares a document type or entities, which CVAT's files never do")
    root = ET.fromstring(text)
    if root.tag != "annotations" or root.find("track") is None:
        raise StavisError(f"{path}: not a file of `CVAT for video` (annotations with tracks): <{root.tag}>")
    labels = [track.get("label", "area") for track in root.iter("track")]
    shapes = _Shapes("frame")
    for track in root.iter("track"):
        label = track.get("label", "area")
        name = label if labels.count(label) == 1 else f"{label} {track.get('id', len(shapes.keys))}"
        keys: dict[float, FloatArray | None] = {}  # of a frame twice in a track the last counts
        for shape in track:
            points = _cvat_shape(shape)
            if points is not None:
                keys[float(shape.attrib["frame"])] = None if shape.get("outside") == "1" else points
        for position, key in keys.items():
            shapes.add(name, position, key)
    size = root.find(".//original_size")
    if size is None:
        return shapes, None
    return shapes, _size(size.findtext("width", ""), size.findtext("height", ""))


def _cvat_shape(shape: ET.Element) -> FloatArray | None:
    get = shape.attrib
    if shape.tag == "box":
        left, top, right, bottom = (float(get[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(left, top, right - left, bottom - top)
    if shape.tag in ("polygon", "polyline"):
        return _numbers(get["points"])
    if shape.tag == "ellipse":
        return _ellipse(*(float(get[name]) for name in ("cx", "cy", "rx", "ry")))
    return None
