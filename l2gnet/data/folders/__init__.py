"""Kinds of data folder: a folder comes in, its scans, classes and split go out."""
