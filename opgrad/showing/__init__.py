"""What the installed operators are: ``python -m opgrad`` lists them, ``show`` tells all of one.

`states` reads the metadata and imports nothing; `guarding` runs what must import an operator in a
process of its own, where `describing` and `plotting` look at it; `terminal` prints.
"""
