"""The `l2gnet` command: the same verbs as the notebooks, words in and status out.

A verb imports within itself what takes long, after what it can check without: help and mistakes are answered at once.
"""
