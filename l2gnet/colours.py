"""The colours of structures, the same in every picture, viewer and file."""

# Okabe and Ito's palette, safe for colour blindness, with violet for its black, which scans are full of, and two more.
COLOURS = (
    *("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#6A3DE8"),
    *("#C3FFA5", "#695A2D"),
)

# What a prediction is against the truth: colours that no structure has, told from all of them also by the colour-blind.
AGREEMENT = {"right": "#FFFFFF", "added": "#00FFF0", "missed": "#FF005A", "confused": "#A578FF"}


def label_colour(label: int) -> str:
    """The colour of a label: grey for background."""
    return COLOURS[(label - 1) % len(COLOURS)] if label else "#8c8c8c"
