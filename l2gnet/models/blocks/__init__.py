"""The parts that models are built of: features come in, features go out, and what a viewer wants to know of them."""
