"""Run-length masks, submission tables, voting and scoring: numpy only, so they start at once, anywhere.

``rle`` is one mask, ``stack`` the masks of all classes of one image, ``table`` the CSV of all images; ``vote``,
``agreement``, ``score`` and ``compare`` work on tables, an image at a time; ``ledger`` keeps what came of them. scipy
is imported where ``surface`` needs pixels, and to match exchanged classes.
"""
