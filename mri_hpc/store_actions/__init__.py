"""The actions of ``mri-hpc store``, a module each: its options, and the function that carries them out."""
