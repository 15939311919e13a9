"""Pages, figures, tables and sheets."""
