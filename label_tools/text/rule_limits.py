"""The thresholds of the rules in `bad_input.md`, each written once."""

from __future__ import annotations

LARGEST_COORDINATE = 100_000.0  # pixels; beyond it a coordinate is a mistake (B07)
LARGEST_FACTOR = 10  # ... and beyond ten times the image's longer side
LEAST_SIDE = 1.0  # pixel; thinner boxes are left out (B17)
LEAST_LEFT = 0.25  # of an object's area must lie in the image (B05)
MOST_ASPECT = 100  # longer boxes are worth a note (B18)
MAX_PIXELS = 100_000_000  # of an image, unless the user allows more (B66)
LEAST_IMAGE_SIDE = 16  # pixels (B69)
MOST_IMAGE_ASPECT = 100  # (B69)
LONGEST_LABEL = 200  # characters (B37)
SLACK = 0.01  # pixels: clipping this much is rounding, not a finding
