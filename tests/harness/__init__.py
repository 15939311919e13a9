"""Ways to treat a store badly, systematically and for hours."""
