from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ConfigError
from mllm.registry import METRICS, Registry

SHAPES = """
from zoo.registry import SHAPES

@SHAPES.register_module()
class Circle:
    def __init__(self, radius, *, colour="red", layers=1):
        self.radius, self.colour, self.layers = radius, colour, layers

@SHAPES.register_module()
class Square:
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Writes a package `zoo` with modules of the folder `zoo.shapes`; returns its registry."""

    def write(**modules: str) -> Registry:
        folder = tmp_path / "zoo" / "shapes"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "zoo" / "__init__.py").touch()
        (tmp_path / "zoo" / "registry.py").write_text(
            "from mllm.registry import Registry\nSHAPES = Registry('shape', 'SHAPES', folder='zoo.shapes')\n"
        )
        (folder / "__init__.py").touch()
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        import zoo.registry  # pyright: ignore[reportMissingImports]

        return zoo.registry.SHAPES

    yield write
    for name in [name for name in sys.modules if name == "zoo" or name.startswith("zoo.")]:
        del sys.modules[name]


LINES = """
from zoo.registry import SHAPES

@SHAPES.register_module(["Line", "Segment"])
class Line:
    pass

@SHAPES.register_family(r"line(\\d)", example="line2")
def numbered(number):
    return int(number)
"""


def test_find_imports_the_module_of_the_name_alone(package: Callable[..., Registry]) -> None:
    registry = package(shapes=SHAPES, lines=LINES)
    assert "zoo.shapes.shapes" not in sys.modules
    assert registry.find("Square").__name__ == "Square"
    assert "zoo.shapes.lines" not in sys.modules
    assert registry.find("Segment") is registry.find("Line")
    assert registry.names() == ["Circle", "Line", "Segment", "Square", "line2"]


def test_find_reads_the_pattern_of_a_family(package: Callable[..., Registry]) -> None:
    assert package(lines=LINES).find("line7") == 7


def test_a_module_may_look_up_names_while_it_is_imported(package: Callable[..., Registry]) -> None:
    looking = "from zoo.registry import SHAPES\nCIRCLE = SHAPES.find('Circle')\n"
    assert package(a_shapes=SHAPES, b_looking=looking).names() == ["Circle", "Square"]


def test_a_failed_import_fails_again(package: Callable[..., Registry]) -> None:
    registry = package(shapes=SHAPES, wrong="import no_such_module\n" + SHAPES.replace("Circle", "Oval"))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            registry.find("Oval")


TYPED = """
from __future__ import annotations
from typing import TYPE_CHECKING
from zoo.registry import SHAPES
if TYPE_CHECKING:
    from nowhere import Ink

@SHAPES.register_module()
class Star:
    def __init__(self, *, points: int = 5, size: float | None = None, name: str = "", bold: bool = False,
                 ink: Ink | int = 1): ...
"""


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"points": 5.0}, "points: expected a whole number, found float '5.0'"),
        ({"points": True}, "points: expected a whole number, found bool 'True'"),
        ({"points": None}, "points: expected a whole number, found nothing"),
        ({"size": "big"}, "size: expected a number or None, found str 'big'"),
        ({"name": 7}, "name: expected a text, found int '7'"),
        ({"bold": 1}, "bold: expected True or False, found int '1'"),
    ],
)
def test_numbers_and_texts_are_what_the_class_asks_for(
    package: Callable[..., Registry], argument: dict[str, Any], message: str
) -> None:
    registry = package(shapes=TYPED)
    with pytest.raises(ConfigError) as caught:
        registry.make({"type": "Star", **argument})
    assert str(caught.value) == f"shape 'Star': {message}"
    registry.make({"type": "Star", "points": 7, "size": 2, "name": "a", "bold": True, "ink": "blue"})
    registry.make({"type": "Star", "size": None, "ink": None})


def test_an_unknown_name_lists_the_nearest(package: Callable[..., Registry]) -> None:
    registry = package(shapes=SHAPES)
    with pytest.raises(ConfigError) as caught:
        registry.find("circle")
    assert str(caught.value) == "unknown shape type 'circle'; did you mean 'Circle'?"
    with pytest.raises(ConfigError) as caught:
        registry.find("Hexagon")
    assert str(caught.value) == "unknown shape type 'Hexagon'; known: Circle, Square"


@pytest.mark.parametrize("name", [None, ["Circle"], 3])
def test_a_name_of_another_type_is_unknown(package: Callable[..., Registry], name: object) -> None:
    with pytest.raises(ConfigError, match="unknown shape type"):
        package(shapes=SHAPES).find(name)


def test_a_name_can_be_taken_once(package: Callable[..., Registry]) -> None:
    registry = package(shapes=SHAPES, twice=SHAPES)
    with pytest.raises(KeyError, match=r"Circle is already registered in shape at zoo\.shapes\.shapes"):
        registry.names()


def test_make_builds_from_a_dict_or_a_name(package: Callable[..., Registry]) -> None:
    registry = package(shapes=SHAPES)
    circle = registry.make({"type": "Circle", "radius": 3}, layers=2)
    assert (circle.radius, circle.colour, circle.layers) == (3, "red", 2)
    assert type(registry.make("Square")).__name__ == "Square"


def test_make_leaves_the_config_alone(package: Callable[..., Registry]) -> None:
    cfg = {"type": "Circle", "radius": 3}
    package(shapes=SHAPES).make(cfg)
    assert cfg == {"type": "Circle", "radius": 3}


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (
            {"type": "Circle", "radius": 1, "color": "red"},
            "shape 'Circle': color: unknown name; did you mean 'colour'?",
        ),
        (
            {"type": "Circle", "radius": 1, "zzz": 1},
            "shape 'Circle': zzz: unknown name; known: colour, layers, radius",
        ),
        ({"type": "Square", "side": 1}, "shape 'Square': side: unknown name; known: none"),
        ({"type": "Circle"}, "shape 'Circle': radius: expected a value, found nothing"),
        ("Circle", "shape 'Circle': radius: expected a value, found nothing"),
        ({"radius": 1}, "expected the name of a shape, or a dict with its 'type', found dict \"{'radius': 1}\""),
        (None, "expected the name of a shape, or a dict with its 'type', found nothing"),
        (["Circle"], "expected the name of a shape, or a dict with its 'type', found list \"['Circle']\""),
        ({"type": "Squares"}, "type: unknown shape type 'Squares'; did you mean 'Square'?"),
    ],
)
def test_make_names_what_is_wrong(package: Callable[..., Registry], cfg: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        package(shapes=SHAPES).make(cfg)
    assert str(caught.value) == message


def test_metrics_are_found() -> None:
    assert {"REC", "ExactMatch"} <= set(METRICS.names())
    assert METRICS.make({"type": "REC", "constant_box": True}).constant_box


FAMILY = """
from zoo.registry import SHAPES

@SHAPES.register_family(r"([3-9])gon", example="5gon")
def polygon(corners):
    def make(*, size):
        return int(corners), size
    return make
"""


def test_a_family_answers_to_every_name_of_its_pattern(package: Callable[..., Registry]) -> None:
    registry = package(shapes=SHAPES, polygons=FAMILY)
    assert registry.names() == ["5gon", "Circle", "Square"]
    assert registry.make("7gon", size=2) == (7, 2)
    with pytest.raises(ConfigError, match="shape '7gon': sise: unknown name; did you mean 'size'"):
        registry.make({"type": "7gon", "sise": 2})
    for name in ("2gon", "7gons"):
        with pytest.raises(ConfigError, match=f"unknown shape type '{name}'; did you mean '5gon'"):
            registry.find(name)
