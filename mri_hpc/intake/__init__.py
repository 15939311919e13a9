"""From anything on disk to canonical samples."""
