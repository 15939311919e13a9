import numpy as np

from mri_hpc.cohort import cells
from mri_hpc.cohort.cells import nearest


def crowded(number):
    """Make points in clumps of very different sizes, and one far from all."""
    random = np.random.default_rng(0)
    clumps = random.normal(0, 3, (12, 8))[np.minimum(random.geometric(0.3, number) - 1, 11)]
    points = clumps + random.normal(0, 1, (number, 8))
    points[0] = 100
    return points.astype(np.float32)


def test_nearly_all_nearest_points_are_found_where_cells_are_crowded():
    points = crowded(6000)
    found = nearest(points, 11, lambda parts: parts)
    away = ((points[::60, None] - points[None]) ** 2).sum(axis=2)
    right = np.argsort(away, axis=1)[:, :11]
    shared = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found[::60], right, strict=True)]
    assert np.mean(shared) > 0.95 * 11
    assert np.min(shared) >= 5


def test_rounds_draw_centres_into_the_midst_of_their_points(monkeypatch):
    points = crowded(6000)

    def away():
        return np.mean(((points[:, None] - cells._centres(points, 30)[None]) ** 2).sum(axis=2).min(axis=1))

    drawn = away()
    monkeypatch.setattr(cells, "ROUNDS", 0)
    assert drawn < 0.9 * away()


def test_points_are_their_own_nearest_and_few_points_are_all_found():
    points = crowded(30)
    found = nearest(points, 40, lambda parts: parts)
    assert found.shape == (30, 30)
    assert (np.sort(found, axis=1) == np.arange(30)).all()
