"""Shape and type checks are on for the whole library during tests."""

from jaxtyping import install_import_hook

install_import_hook("l2gnet", "beartype.beartype")
