"""Run-length masks, submission tables, voting and scoring: numpy only, so they start at once, anywhere.

``rle`` is one mask, ``stack`` the masks of all classes of one image, ``table`` the CSV of all images;
``vote`` and ``score`` work on tables, an image at a time.
"""
