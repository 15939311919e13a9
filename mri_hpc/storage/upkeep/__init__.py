"""Looking after a store: compaction, retraction, relabelling, verification, repair."""
