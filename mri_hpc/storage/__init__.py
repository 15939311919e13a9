"""The store: chunks, commits, snapshots, and reading them."""
