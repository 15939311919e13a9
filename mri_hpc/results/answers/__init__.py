"""Answers of a network about patients: probability, decision, resemblance."""
