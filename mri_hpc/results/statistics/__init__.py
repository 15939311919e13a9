"""Patients, figures of merit and their intervals."""
