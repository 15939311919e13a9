"""Models that are kept to be asked: records, which of them is current, and what speaks for each."""
