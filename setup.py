"""The wheel carries the chart, its values, schema and pinned binaries' modules: an installed `gpu-inference` needs them.

All else about the package is in pyproject.toml, which cannot name folders outside of the package's own.
"""

from setuptools import find_packages, setup

# What gpu_inference/paths.py looks for beside the package.
CARRIED = ("chart", "schema", "values", "tools/binaries")
FOLDERS = {f"gpu_inference_files.{folder.replace('/', '.')}": folder for folder in CARRIED}

setup(
    packages=[*find_packages("tools"), *FOLDERS],
    package_dir={"": "tools", **FOLDERS},
    package_data={"gpu_inference": ["**/*.yaml"], **{name: ["**/*", "**/.*"] for name in FOLDERS}},
)
