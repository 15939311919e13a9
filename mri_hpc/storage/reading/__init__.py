"""Images of a snapshot, read at the rate of a memory copy."""
