"""What a store holds: commits folded into a table of one row an image."""
