"""The colours of structures, the same in every picture, viewer and file."""

# Okabe and Ito's palette, safe for colour blindness, with violet for its black: seen on scans, and unlike the others.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#6A3DE8")


def label_colour(label: int) -> str:
    """The colour of a label: grey for background."""
    return COLOURS[(label - 1) % len(COLOURS)] if label else "#8c8c8c"
