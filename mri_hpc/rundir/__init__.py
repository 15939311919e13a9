"""The run directory: the contract between launch, the training job, status, evaluate and report."""
