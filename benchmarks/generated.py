"""Draw a small Carvana and a small GTA5, in the layout and at the size of the real ones (an account, 57 GB).

    python benchmarks/generated.py data/generated --cars 20 --streets 120

What is drawn is simple, so scores on it say how precisions and speeds compare, and nothing of the real data.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from segkit_gta5.dataset import TABLE

CAR, STREET = (1918, 1280), (1914, 1052)  # width, height, as published
VIEWS = 16
Colour = tuple[int, ...]


class Scene:
    """A picture and its mask, drawn together, far things first."""

    def __init__(self, size: tuple[int, int], ground: Colour, label: int, random: np.random.Generator) -> None:
        self.size, self.random = size, random
        self.picture, self.mask = Image.new("RGB", size, ground), Image.new("L", size, label)

    def polygon(self, corners: list[tuple[float, float]], colour: Colour, label: int | None) -> None:
        """Fill it; without a label only in the picture."""
        ImageDraw.Draw(self.picture).polygon(corners, fill=colour)
        if label is not None:
            ImageDraw.Draw(self.mask).polygon(corners, fill=label)

    def box(self, left: float, top: float, width: float, height: float, colour: Colour, label: int | None) -> None:
        """A rectangle."""
        right, bottom = left + width, top + height
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, label)

    def disc(self, x: float, y: float, radius: float, colour: Colour, label: int | None) -> None:
        """A circle."""
        angles = np.linspace(0, 2 * np.pi, 48)
        self.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles], colour, label)

    def photograph(self) -> Image.Image:
        """Out of focus by a pixel, unevenly lit, with noise."""
        pixels = np.asarray(self.picture.filter(ImageFilter.GaussianBlur(1.2)), np.float32)  # [H,W,3]
        height, width = pixels.shape[:2]
        light = np.linspace(*self.random.uniform(0.75, 1.15, 2), width)[None, :, None]
        coarse = self.random.normal(0, 12, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
        noise = coarse[:height, :width] + self.random.normal(0, 8, pixels.shape)
        return Image.fromarray((pixels * light + noise).clip(0, 255).astype(np.uint8))

    def colour(self, low: int = 30, high: int = 225) -> Colour:
        """Any."""
        return tuple(int(value) for value in self.random.integers(low, high, 3))


def vehicle(scene: Scene, x: float, y: float, length: float, colour: Colour, label: int) -> None:
    """A car from the side, its wheels at ``y``: body, windows that are of the car, wheels."""
    tall = 0.3 * length
    outline = [(0, 0.1), (0, 0.55), (0.18, 0.62), (0.3, 1), (0.68, 1), (0.84, 0.6), (1, 0.5), (1, 0.1)]
    scene.polygon([(x + a * length, y - b * tall) for a, b in outline], colour, label)
    window = [(0.24, 0.66), (0.33, 0.92), (0.66, 0.92), (0.77, 0.66)]
    scene.polygon([(x + a * length, y - b * tall) for a, b in window], (60, 70, 80), None)
    for place in (0.2, 0.8):
        scene.disc(x + place * length, y - 0.12 * tall, 0.085 * length, (25, 25, 28), label)


def car(folder: Path, number: int) -> None:
    """Sixteen views of one car before a studio's wall; it is nearest when seen from the side."""
    random = np.random.default_rng([0, number])
    colour = tuple(int(value) for value in random.integers(30, 240, 3))
    width, height = CAR
    for view in range(VIEWS):
        scene = Scene(CAR, (205, 208, 212), 0, random)
        floor = height * random.uniform(0.58, 0.64)
        scene.box(0, floor, width, height - floor, (178, 176, 172), None)
        length = width * (0.42 + 0.3 * abs(np.sin(np.pi * view / VIEWS)))
        y = height * random.uniform(0.74, 0.78)
        scene.polygon(
            [((width - length) / 2, y), ((width + length) / 2, y), (width / 2, y + 60)], (120, 118, 116), None
        )
        vehicle(scene, (width - length) / 2, y, length, colour, 1)
        name = f"{number:012x}_{view + 1:02d}"
        scene.photograph().save(folder / "train" / f"{name}.jpg", quality=90)
        scene.mask.save(folder / "train_masks" / f"{name}_mask.gif")


def street(folder: Path, number: int) -> None:
    """Sky, houses, trees, road, and what moves and stands on it."""
    random = np.random.default_rng([1, number])
    ids = {name: stored for name, stored, _ in TABLE}
    scene = Scene(STREET, (150, 180, 215), ids["sky"], random)
    width, height = STREET
    horizon = height * random.uniform(0.42, 0.5)
    for left in range(-60, width, 230):
        tall = height * random.uniform(0.1, 0.4)
        scene.box(left, horizon - tall, 228, tall + 40, scene.colour(70, 170), ids["building"])
        for row in range(int(tall) // 70):
            scene.box(left + 40, horizon - tall + 15 + 70 * row, 60, 35, (50, 60, 75), None)
    for x in random.uniform(0, width, 5):
        scene.box(x - 8, horizon - 90, 16, 130, (80, 60, 40), ids["vegetation"])
        scene.disc(x, horizon - 120, random.uniform(50, 90), (60, 110, 50), ids["vegetation"])
    scene.box(0, horizon + 30, width, height, (150, 145, 140), ids["sidewalk"])
    middle, top = width * random.uniform(0.4, 0.6), horizon + 30
    edges = [(-0.1, top), (0.1, top), (0.75, height), (-0.75, height)]
    road = [(middle + x * width, y) for x, y in edges]
    scene.polygon(road, (85, 85, 90), ids["road"])
    if random.random() < 0.4:
        scene.box(0, horizon + 10, width * 0.3, 50, (140, 120, 110), ids["fence"])
    for y in np.sort(random.uniform(horizon + 60, height * 0.9, 5)):
        size = 120 + 0.9 * (y - horizon)
        kind = random.choice(["car", "car", "car", "truck", "bus"])
        x = random.uniform(-0.1, 0.9) * width
        if kind == "car":
            vehicle(scene, x, y, size, scene.colour(), ids["car"])
        else:
            scene.box(x, y - 0.7 * size, 1.2 * size, 0.65 * size, scene.colour(), ids[kind])
    for y in np.sort(random.uniform(horizon + 50, height * 0.85, 4)):
        tall, x = 60 + 0.4 * (y - horizon), random.uniform(0, width)
        scene.box(x, y - tall * 0.8, tall * 0.28, tall * 0.8, scene.colour(), ids["person"])
        scene.disc(x + tall * 0.14, y - tall * 0.9, tall * 0.12, (205, 165, 140), ids["person"])
    for x in random.uniform(0, width, 3):
        scene.box(x, horizon - 200, 14, 330, (110, 110, 112), ids["pole"])
        kind, colour = (("traffic sign", (225, 205, 60)), ("traffic light", (40, 60, 40)))[int(random.integers(2))]
        scene.box(x - 20, horizon - 240, 54, 70, colour, ids[kind])
    scene.box(0, height - 40, width, 40, (30, 30, 35), 1)  # the bonnet, which is void
    scene.photograph().save(folder / "images" / f"{number:05d}.png", compress_level=1)
    scene.mask.save(folder / "labels" / f"{number:05d}.png")


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="gets carvana and gta5")
    parser.add_argument("--cars", type=int, default=20, help="of sixteen views each: 20")
    parser.add_argument("--streets", type=int, default=120, help="scenes: 120")
    given = parser.parse_args()
    for place in ("carvana/train", "carvana/train_masks", "gta5/images", "gta5/labels"):
        (given.folder / place).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        waiting = [pool.submit(car, given.folder / "carvana", number) for number in range(given.cars)]
        waiting += [pool.submit(street, given.folder / "gta5", number) for number in range(1, given.streets + 1)]
        for each in tqdm(waiting, unit="", leave=False):
            each.result()


if __name__ == "__main__":
    main()
