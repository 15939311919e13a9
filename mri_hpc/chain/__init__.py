"""A chain of links: each takes what is new from images to a proposal, once, and ends."""
