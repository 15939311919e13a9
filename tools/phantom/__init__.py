"""What phantoms.py draws: heads as functions of a place in space, cut into slices like a scanner's."""
