"""File formats: a file comes in, an array with its place in the world goes out, or one clear error."""
