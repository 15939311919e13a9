"""Labels of sources, from folders and tables: class, patient, study, split."""
