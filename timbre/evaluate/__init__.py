"""What ``timbre evaluate`` is made of.

One pair's way: :mod:`cases` loads it, :mod:`systems` runs every system over it, :mod:`figures`
measures what comes out, :mod:`jobs` does that for all pairs in parallel, :mod:`intervals` and
:mod:`summary` say what the figures of all pairs mean together, :mod:`tables` writes that down.
"""
