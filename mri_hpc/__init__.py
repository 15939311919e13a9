"""From labelled brain MRI to an honestly evaluated classifier, on nodes that can be taken away."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        # Only where somebody asks: looking at what is installed takes longer than starting.
        from mri_hpc.base.version import version

        return version()
    raise AttributeError(f"module 'mri_hpc' has no attribute {name!r}")
