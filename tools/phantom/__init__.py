"""Phantoms: heads as functions of a point in space, cut into slices like a scanner's."""
