"""Beartype as the test run uses it: an int may stand for a float, as everywhere in Python's typing (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
