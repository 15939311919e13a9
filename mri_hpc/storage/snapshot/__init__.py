"""The content of a store: commits folded into a table of one row an image."""
