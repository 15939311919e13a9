"""Heads drawn for tests, full of folds that change from slice to slice."""

import cv2
import numpy as np

SIDE = 224


def head(number: int, *, slice_number: float = 0.0) -> np.ndarray:
    """Draw a slice of a head: uint8, (224, 224). number: of the person."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[-1:1:224j, -1:1:224j]
    wide, long, tilt = random.uniform(0.55, 0.7), random.uniform(0.7, 0.85), random.uniform(-0.2, 0.2)
    u, v = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    radius = np.hypot(u / wide, v / long)
    folds = sum(
        random.uniform(0.5, 1) * np.sin(a * u + b * v + phase + speed * slice_number)
        for a, b, phase, speed in random.uniform(-1, 1, (24, 4)) * (25, 25, 7, 4)
    )
    grey = 90 + 22 * np.asarray(folds) / 2 + 60 * u * random.uniform(-1, 1)
    grey[radius > 0.86] = 30
    grey[radius > 0.92] = 210
    grey[radius > 1] = 3
    return np.clip(cv2.GaussianBlur(grey, (0, 0), 1), 0, 255).astype(np.uint8)


def saved_again(image: np.ndarray, quality: int = 70) -> np.ndarray:
    """Pass an image through a JPEG."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


def resized(image: np.ndarray) -> np.ndarray:
    """Make an image smaller, and as large as before again."""
    small = cv2.resize(image, (150, 150), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (SIDE, SIDE)))


def cropped(image: np.ndarray) -> np.ndarray:
    """Take up to 5 % off each side, and fit what is left into the square, between bars."""
    part = image[11:-4, 9:-2]
    scale = SIDE / max(part.shape)
    small = cv2.resize(part, (round(part.shape[1] * scale), round(part.shape[0] * scale)))
    square = np.zeros_like(image)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def brighter(image: np.ndarray) -> np.ndarray:
    """Change brightness and contrast."""
    return np.clip(image * 0.8 + 30, 0, 255).astype(np.uint8)
