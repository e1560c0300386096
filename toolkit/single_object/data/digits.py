"""digits and digit_grid: handwritten digits (scikit-learn's, 1,797 of 8 x 8 pixels) in clutter, 1 x 48 x 60.

digits: one digit, or none in every eleventh picture on average, after the assignment's localisation data. Its splits
are 59,400 / 6,600 / 11,000 pictures.

digit_grid: one to four zeros and ones for the 2 x 3 grid detectors. Numbers of digits as in the assignment's detection
data: 78, 17, 4 and 1 of a hundred pictures hold one, two, three, four. Digits do not overlap by more than a tenth; two
may still have their centres in the same cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from label_tools.text.errors import MissingExtra
from toolkit.data.copy_paste import hidden_share
from toolkit.single_object.data.samples import Object, Samples

HEIGHT, WIDTH = 48, 60
_BASE = 28  # pixels of a digit's side at scale 1, as MNIST's
_INK = 60  # of 255: darker is not part of the digit's box
MOST_STROKES = 5  # of the clutter
_EMPTY = 1 / 11
_NUMBERS = (0.78, 0.17, 0.04, 0.01)
MOST_HIDDEN = 0.1  # of the smaller of two digits
TRIES = 20  # places for one digit


def draw_digits(count: int, *, seed: int, part: str) -> Samples:
    """`count` pictures from the handwriting of part "train" or "val". Same arguments, same pixels."""
    random = np.random.default_rng([48, seed, part == "val"])
    return _draw("digits", "0123456789", count, part, random, lambda: int(random.random() >= _EMPTY))


def draw_digit_grid(count: int, *, seed: int, part: str) -> Samples:
    """The same of zeros and ones, one to four in a picture."""
    random = np.random.default_rng([23, seed, part == "val"])
    return _draw("digit_grid", "01", count, part, random, lambda: 1 + int(random.choice(4, p=_NUMBERS)))


def _draw(
    name: str, classes: str, count: int, part: str, random: np.random.Generator, how_many: Callable[[], int]
) -> Samples:
    source, digits = handwriting(part)
    source, digits = source[digits < len(classes)], digits[digits < len(classes)]
    images = np.zeros((count, 1, HEIGHT, WIDTH), np.uint8)
    objects: list[Object] = []
    for row in range(count):
        canvas = clutter(random)
        taken: list[tuple] = []
        for _ in range(how_many()):
            which = int(random.integers(len(source)))
            if box := _lay(canvas, written(source[which], random), random, taken):
                taken.append(box)
                objects.append((row, int(digits[which]), box))
        images[row, 0] = canvas
    return Samples.of(name, tuple(classes), images, objects)


def handwriting(part: str) -> tuple[np.ndarray, np.ndarray]:
    """-> (pictures [D,8,8] uint8, digits [D]) for part "train" or "val": no hand-written digit is in both."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra(
            "digits come from scikit-learn, which is not installed: pip install 'frcnn-toolkit[baselines]'"
        ) from None
    data = load_digits()
    pictures = np.clip(data.images * (255 / 16), 0, 255).astype(np.uint8)
    mine = np.arange(len(pictures)) % 6 == 5  # the file is in the order of its writers, every class in each stretch
    mine = ~mine if part == "train" else mine
    return pictures[mine], data.target[mine]


def written(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One digit, 17 to 34 pixels high, turned by at most 25 degrees, cut to its ink: [h,w] uint8."""
    side = round(_BASE * random.uniform(0.6, 1.2))
    image = Image.fromarray(np.pad(picture, 1)).resize((side, side), Image.Resampling.BICUBIC)
    image = image.rotate(float(random.uniform(-25, 25)), Image.Resampling.BILINEAR, expand=True)
    pixels = np.asarray(image)
    rows, columns = np.nonzero((pixels > _INK).any(1))[0], np.nonzero((pixels > _INK).any(0))[0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def clutter(random: np.random.Generator) -> np.ndarray:
    """[48,60] uint8: soft blots and short strokes, many as bright as a digit, and speckle over everything."""
    small = random.random((HEIGHT // 6, WIDTH // 6)) ** 4 * 150
    soft = Image.fromarray(small.astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    canvas = np.asarray(soft).astype(np.float32)
    for _ in range(int(random.integers(0, MOST_STROKES + 1))):
        _stroke(canvas, random)
    canvas += random.standard_normal(canvas.shape, dtype=np.float32) * 12
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _stroke(canvas: np.ndarray, random: np.random.Generator) -> None:
    """A short straight line with soft edges; the brighter pixel wins."""
    x0, y0, angle = random.uniform(0, WIDTH), random.uniform(0, HEIGHT), random.uniform(0, np.pi)
    length, thick, bright = random.uniform(2, 9), random.uniform(0.8, 2.2), random.uniform(80, 200)
    reach = length + 3 * thick  # beyond it less than one grey value
    left, right = max(0, int(x0 - reach)), min(WIDTH, int(x0 + reach) + 1)
    top, bottom = max(0, int(y0 - reach)), min(HEIGHT, int(y0 + reach) + 1)
    x = np.arange(left, right, dtype=np.float32)[None] - x0
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - y0
    cos, sin = np.cos(angle), np.sin(angle)
    along = np.clip(x * cos + y * sin, -length, length)
    away = (x - along * cos) ** 2 + (y - along * sin) ** 2
    patch = canvas[top:bottom, left:right]
    np.maximum(patch, bright * np.exp(-away / thick**2), out=patch)


def paste(canvas: np.ndarray, digit: np.ndarray, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Lay `digit` over `canvas` (the brighter pixel wins) at a random place; -> its box, half-open."""
    height, width = digit.shape
    x, y = int(random.integers(0, WIDTH - width + 1)), int(random.integers(0, HEIGHT - height + 1))
    patch = canvas[y : y + height, x : x + width]
    np.maximum(patch, digit, out=patch)
    return x, y, x + width, y + height


def _lay(canvas: np.ndarray, digit: np.ndarray, random: np.random.Generator, taken: list[tuple]) -> tuple | None:
    """Paste where it hardly covers the others; None when all places that were tried were taken."""
    for _ in range(TRIES):
        before = canvas.copy()
        box = paste(canvas, digit, random)
        if hidden_share(np.array(box), np.array(taken).reshape(-1, 4)) <= MOST_HIDDEN:
            return box
        canvas[:] = before
    return None
