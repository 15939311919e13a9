"""The drill: a short job of a run's own shape, which is interrupted, comes back, and says what it met."""
