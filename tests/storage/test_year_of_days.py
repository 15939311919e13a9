"""Images that come day by day are rewritten a few times at most, and no day writes without a bound."""

from tools.benchmarks import year_of_days


def test_a_byte_that_comes_day_by_day_is_written_at_most_once_a_tier_of_compaction(tmp_path, monkeypatch):
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))
    days = year_of_days.live(tmp_path, images=160, days=16, size=64, target_mb=1)
    stored, compacted = (sum(getattr(day, name) for day in days) for name in ("stored", "compacted"))
    # As it comes, and again in each of the tiers above that of a day.
    assert 0 < compacted <= 3 * stored
    assert days[-1].images == 160
    # A day that compacts is the exception, and its bytes are bound by the target.
    assert 0 < sum(day.compacted > 0 for day in days) <= len(days) / 3
    assert not [day for day in days if day.written > year_of_days.most_of(day, target_mb=1)]
