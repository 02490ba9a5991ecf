"""One place to register: what is refused, and what becomes of other packages' methods that cannot be had."""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from miseg import plugins
from miseg.data.sources import registry as sources
from miseg.interface import Task
from miseg.methods import METHODS, build_method, registry
from miseg.methods.configs import CrossEntropy, RegionMutualInformation
from miseg.methods.dice import Dice
from miseg.methods.registry import MethodConfig, register
from miseg.networks import configs, register_network
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import Experiment, from_dict, to_dict


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[EntryPoint]]]:
    """Entry points by group, of packages that are not installed: fill it before anything is looked up."""
    points: dict[str, list[EntryPoint]] = {}
    monkeypatch.setattr(plugins, "entry_points", lambda group: points.get(group, []))
    forget()
    yield points
    forget()


def forget() -> None:
    plugins.declared.cache_clear()
    plugins.load_all.cache_clear()


def broken(name: str, group: str, value: str = "nowhere.at.all") -> EntryPoint:
    return EntryPoint(name, value, group)


def test_a_method_is_known_by_its_settings_and_by_its_short_name() -> None:
    assert METHODS[RegionMutualInformation].__name__ == "RegionMutualInformationMethod"
    assert CONTENDERS["rmi"].settings is RegionMutualInformation and CONTENDERS["rmi"].label == "RMI"
    assert CONTENDERS["dice"].rows() == ("Dice tuned", "Dice as published")
    assert CONTENDERS["dice"].rows(planned=True) == ("Dice tuned", "Dice as planned")
    assert len(METHODS) == len(CONTENDERS) == len({kind.__name__ for kind in METHODS})


def test_two_of_one_name_are_refused_and_both_are_named() -> None:
    with pytest.raises(ValueError, match=r"miseg\.methods\.dice\.Dice and .*Other have one short name, dice"):

        @register("dice", label="other")
        @dataclass(frozen=True)
        class Other(MethodConfig):
            pass

    other_dice = dataclass(frozen=True)(type("Dice", (MethodConfig,), {"__module__": __name__}))
    with pytest.raises(ValueError, match=rf"miseg\.methods\.dice\.Dice and {__name__}\.Dice have one name of settings"):
        register("other-dice", label="other")(other_dice)
    other_unet = dataclass(frozen=True)(type("UNet", (configs.Network,), {"__module__": __name__}))
    with pytest.raises(ValueError, match=rf"miseg\.networks\.configs\.UNet and {__name__}\.UNet have one name"):
        register_network("nowhere:UNet")(other_unet)
    assert "other-dice" not in CONTENDERS and METHODS[Dice].__name__ == "NetworkAndLossMethod"


def test_settings_that_nobody_registered_are_refused() -> None:
    @dataclass(frozen=True)
    class Unheard(MethodConfig):
        pass

    with pytest.raises(TypeError, match="no method takes settings of type Unheard; METHODS holds CrossEntropy"):
        build_method(Unheard(), Task(3))
    with pytest.raises(TypeError, match="no network takes settings of type VGG; there are UNet, DeepLab"):
        build_method(CrossEntropy(configs.VGG()), Task(3))  # type: ignore[arg-type]


def test_a_broken_package_is_warned_of_once_and_named_where_its_method_is_asked_for(
    packages: dict[str, list[EntryPoint]], caplog: pytest.LogCaptureFixture
) -> None:
    packages["miseg.methods"] = [broken("median", "miseg.methods")]
    with caplog.at_level(logging.WARNING, "miseg"):
        assert CrossEntropy in METHODS and "median" not in CONTENDERS
    (warned,) = [record.getMessage() for record in caplog.records]
    assert warned.startswith("left out: miseg.methods: 'median' of") and "nowhere.at.all" in warned
    assert "ModuleNotFoundError: No module named 'nowhere'" in warned and warned.endswith("uninstall that package")
    data = to_dict(Experiment(CrossEntropy()))
    data["method"]["type"] = "Median"
    with pytest.raises(ValueError, match=r"type = 'Median': expected one of .*; miseg\.methods: 'median' of .* cannot"):
        from_dict(data)
    with pytest.raises(ValueError, match=r"'median' of .* cannot be loaded"):
        plugins.load("miseg.methods", "median")


def test_two_packages_of_one_name_are_both_left_out_and_both_named(packages: dict[str, list[EntryPoint]]) -> None:
    packages["miseg.datasets"] = [
        broken("mine", "miseg.datasets", value="one.place:read"),
        broken("mine", "miseg.datasets", value="another:read"),
        broken("camvid", "miseg.datasets", value="another:camvid"),
    ]
    loaders = plugins.loaders("miseg.datasets", own=["camvid"])
    assert list(loaders) == ["mine"]
    with pytest.raises(ValueError, match=r"'mine' is in .*one\.place:read.* and .*another:read.*; rename one"):
        loaders["mine"]()


def test_a_name_of_miseg_s_own_stays_its_own(
    packages: dict[str, list[EntryPoint]], caplog: pytest.LogCaptureFixture
) -> None:
    packages["miseg.estimators"] = [broken("ksg", "miseg.estimators", value="another:ksg")]
    with caplog.at_level(logging.WARNING, "miseg"):
        assert plugins.loaders("miseg.estimators", own=["ksg"]) == {}
    assert "'ksg' is in miseg itself and in an unnamed package (another:ksg); rename one" in caplog.text


@pytest.mark.parametrize("key", ["rmi", "dice", "infoseg"])
def test_a_space_travels_by_pickle(key: str) -> None:
    space = registry.by_key()[key].space
    assert pickle.loads(pickle.dumps(space)) == space


SETTINGS = """
from dataclasses import dataclass
from miseg.methods import MethodConfig, register

@register("{key}", label="x"{more})
{decorator}
class {name}(MethodConfig):
    size: int = 1
    {field}
"""


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("def (\n", "SyntaxError"),
        ("x = 1\n", "it registers no method of the short name odd"),
        (
            "from miseg.methods import register\n@register('odd', label='x')\nclass Odd:\n    size = 1\n",
            "is no class below miseg.methods.MethodConfig",
        ),
        (
            SETTINGS.format(key="odd", more="", decorator="", name="Plain", field=""),
            "Plain is no dataclass: write @dataclass",
        ),
        (
            SETTINGS.format(
                key="odd", more="", decorator="@dataclass(frozen=True)", name="Odd", field="supervision = 'weak'"
            ),
            "supervision = 'weak': use one of dense, none, few",
        ),
        (
            SETTINGS.format(
                key="odd",
                more=", space={'method.size': 3}",
                decorator="@dataclass(frozen=True)",
                name="Odd",
                field="",
            ),
            "space method.size = 3: give a range, such as Uniform(0, 1)",
        ),
    ],
)
def test_a_package_s_module_that_adds_no_proper_method_costs_only_that_method(
    module: str,
    reason: str,
    packages: dict[str, list[EntryPoint]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"odd_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(module)
    packages["miseg.methods"] = [broken("odd", "miseg.methods", value=name)]
    with caplog.at_level(logging.WARNING, "miseg"):
        assert CrossEntropy in METHODS and "odd" not in CONTENDERS and len(METHODS) == len(CONTENDERS)
    (warned,) = [record.getMessage() for record in caplog.records]
    assert warned.startswith("left out: miseg.methods: 'odd' of") and reason in warned


def test_an_implementation_that_is_not_there_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(registry._registered)
    monkeypatch.setattr(registry, "_registered", known)

    for implementation, reason in [
        ("nowhere.at:All", "No module named 'nowhere'"),
        ("miseg.interface:Nothing", "has no attribute 'Nothing'"),
    ]:
        settings = dataclass(frozen=True)(type("Hollow", (MethodConfig,), {"__module__": __name__}))
        known.pop(next((kind for kind in known if kind.__name__ == "Hollow"), None), None)
        register("hollow", label="hollow", implementation=implementation)(settings)
        with pytest.raises(ValueError, match=f"Hollow: its implementation '{implementation}' is not there: .*{reason}"):
            METHODS[settings]


def test_a_package_s_data_set_that_is_no_source_is_refused() -> None:
    opened = sources._of_a_package("odd", lambda: lambda root: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"data set 'odd': its package gave NoneType, no miseg\.data\.samples\.Source"):
        opened(None)


def test_a_row_is_called_as_published_where_its_settings_are() -> None:
    similarity = CONTENDERS["similarity"]
    variant = RECIPES["flanders-similarity"]().method
    published = RECIPES["flanders-similarity-as-published"]().method
    assert similarity.rows(first=variant) == ("similarity tuned", "similarity by default")
    assert similarity.rows(first=published) == ("similarity tuned", "similarity as published")
    assert similarity.rows(True, variant) == ("similarity tuned", "similarity as planned")
