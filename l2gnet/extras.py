"""Packages that only some uses need: where one is missing, which extra brings it and what installs it."""

_PACKAGES = {  # of modules that have another name than their package, or come with one
    "IPython": "ipykernel",
    "PIL": "matplotlib",
    "_CharLS": "highdicom",
    "comm": "ipywidgets",
    "dask": "distributed",
    "jupyter_client": "ipykernel",
    "jupyter_core": "ipykernel",
    "matplotlib_inline": "ipykernel",
    "nbclient": "nbconvert",
    "ot": "pot",
    "pydicom": "highdicom",
    "torchmetrics": "lightning",
    "tornado": "jupyterlab",
    "traitlets": "ipykernel",
    "yaml": "pyyaml",
}


def explained(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The same error with what installs the package that is missing; the error itself where this library has none."""
    from importlib.metadata import metadata, requires  # only here: every start of the command reads this file

    from packaging.requirements import Requirement

    module = error.name or ""  # of a package that is there, but lacks a file, this is a name with a dot
    package = _PACKAGES.get(module, module).replace("_", "-").lower()
    wanted = [Requirement(line) for line in requires("l2gnet") or ()]
    needs = [need for need in wanted if need.name.lower() == package and not need.extras]
    for extra in ("", *(metadata("l2gnet").get_all("Provides-Extra") or ())):
        if any(need.marker is None or need.marker.evaluate({"extra": extra}) for need in needs):
            brings = f"l2gnet[{extra}]" if extra else "l2gnet"
            remedy = f"pip install '{brings}'"
            return ModuleNotFoundError(f"{package} is needed, and not installed; {remedy}", name=module)
    return error
