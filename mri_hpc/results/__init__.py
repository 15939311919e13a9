"""Metrics with intervals, figures and the page."""
