"""Images in and out: volumes, the phantom and the public data sets."""
