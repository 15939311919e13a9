"""Files of a source: which there are, the bytes of each, who reads which."""
