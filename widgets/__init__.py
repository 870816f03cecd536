"""Interactive viewers for notebooks (the first of them are still to come)."""
