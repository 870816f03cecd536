"""Notebooks as jobs: a notebook and parameters come in, a run folder with the executed notebook goes out."""
