"""The wheel holds config/ and examples/ as mllm/shipped/, where `mllm.config.shipped` finds them."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class WithShipped(build_py):
    """Copies the folders into the package; an editable install reads those of the clone."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in ("config", "examples"):
                target = Path(self.build_lib, "mllm", "shipped", name)
                copytree(ROOT / name, target, ignore=ignore_patterns("__pycache__"), dirs_exist_ok=True)


setup(cmdclass={"build_py": WithShipped})
