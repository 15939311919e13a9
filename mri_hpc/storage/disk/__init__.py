"""The files of a store, one by one: chunks, commits, columns, private tables."""
