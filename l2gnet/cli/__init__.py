"""The `l2gnet` command: the same verbs as the notebooks, words in and status out."""
