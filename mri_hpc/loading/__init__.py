"""Order, batches and augmentation, as functions of integers."""
