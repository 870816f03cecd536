"""The shape letters of the project and the jaxtyping names that carry them.

B images in the batch, C channels, H W (D) pixels (slices), N tokens of an image at the bottleneck,
d code dimension, K codes in the codebook, R references, L classes with background.

The test run checks every annotation with jaxtyping and beartype; at run time they cost nothing.
"""

from jaxtyping import Bool, Float, Float32, Int, Int64, Integer, Num, UInt8, UInt16

__all__ = ["Bool", "Float", "Float32", "Int", "Int64", "Integer", "Num", "UInt8", "UInt16"]
