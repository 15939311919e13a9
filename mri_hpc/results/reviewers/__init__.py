"""Papers for reviewers: model card and checklists."""
