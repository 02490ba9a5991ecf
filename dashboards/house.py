"""Look of miseg's dashboards: panels, variables and links over Grafana's own builders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TableAutoCellOptions,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
"""Of a panel with curves; the page is 24 wide."""

Levels = Sequence[tuple[float | None, str]]
"""From which value on (None: from the lowest) which colour."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and how its series are called: `{{label}}` stands for a label's value."""

    expr: str
    legend: str = "__auto"


def page(uid: str, title: str, description: str, variables: Iterable[object], since: str = "now-6h") -> object:
    """An empty dashboard, linked to the others with the time and the variables that they share."""
    built = dashboard.Dashboard(title).uid(uid).description(description).tags(["miseg"])
    built = built.timezone("browser").time(since, "now").refresh("30s").tooltip(DashboardCursorSync.CROSSHAIR)
    built = built.link(
        dashboard.DashboardLink("miseg")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["miseg"])
        .include_vars(True)
        .keep_time(True)
        .icon("external link")
    )
    built = built.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    for variable in variables:
        built = built.with_variable(variable)
    return built


def choice(name: str, label: str, query: str, *, several: bool = True) -> object:
    """A variable with the values that `query` finds; with `several`, all of them at first."""
    built = dashboard.QueryVariable(name).label(label).datasource(SOURCE)
    built = built.query({"query": query, "refId": name}).definition(query)
    built = built.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    if several:
        everything = VariableOption(text="All", value="$__all")
        # Also what has no such label: a training by itself belongs to no tuning.
        built = built.multi(True).include_all(True).all_value(".*").current(everything)
    return built


def entry(name: str, label: str, default: str, description: str) -> object:
    """A variable that the user types."""
    built = dashboard.TextBoxVariable(name).label(label).description(description).default_value(default)
    return built.current(VariableOption(text=default, value=default))


STUDY = choice("study", "Study", "label_values(ray_miseg_run_active, study)")
TUNING = choice("tuning", "Tuning", 'label_values(ray_miseg_run_active{study=~"$study"}, tuning)')
MLFLOW = entry("mlflow", "MLflow", "http://127.0.0.1:5000", "Where your browser reaches the MLflow server.")


def curves(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    stacked: bool = False,
    low: float | None = 0,
    high: float | None = None,
    levels: Levels = (),
) -> object:
    """A panel with a curve for each series of the queries; `levels` are drawn as lines."""
    built = timeseries.Panel().title(title).description(description).unit(unit).datasource(SOURCE)
    built = built.span(width).height(HEIGHT).line_width(1.5).fill_opacity(60 if stacked else 6)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM)
    built = built.legend(legend.show_legend(True).calcs(["lastNotNull", "max"]))
    built = built.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if stacked:
        built = built.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if low is not None:
        built = built.min(low)
    if high is not None:
        built = built.max(high)
    if levels:
        built = built.thresholds(_steps(levels))
        built = built.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return _asking(built, queries)


def number(
    title: str, description: str, unit: str, query: Query, *, width: int = 4, decimals: int | None = None,
    levels: Levels = ((None, "text"),),
) -> object:  # fmt: skip
    """The last value of one query, large, with its course behind it."""
    built = stat.Panel().title(title).description(description).unit(unit).datasource(SOURCE)
    built = built.span(width).height(4).graph_mode(BigValueGraphMode.AREA).color_mode(BigValueColorMode.VALUE)
    built = built.thresholds(_steps(levels)).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    built = built.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    if decimals is not None:
        built = built.decimals(decimals)
    return _asking(built, [query])


def rows(title: str, description: str, key: str, columns: Sequence[tuple[str, str, str]], *, link: str = "") -> object:
    """A table with a line for each value of the label `key`.

    Args:
        columns: heading, unit and expression; the first one's labels become columns too.
        link: where a click on `key` leads.
    """
    built = (
        table.Panel()
        .cell_options(TableAutoCellOptions())
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(24)
        .height(HEIGHT)
    )
    letters = [chr(ord("A") + number) for number in range(len(columns))]
    for letter, (_, _, expr) in zip(letters, columns, strict=True):
        query = prometheus.Dataquery().expr(expr).format(PromQueryFormat.TABLE).instant().ref_id(letter)
        built = built.with_target(query.datasource(SOURCE))
    built = built.with_transformation(
        DataTransformerConfig(id_val="joinByField", options={"byField": key, "mode": "outer"})
    )
    hidden = {f"Time {number}": True for number in range(1, len(columns) + 1)} | {"Time": True}
    named = {f"Value #{letter}": heading for letter, (heading, _, _) in zip(letters, columns, strict=True)}
    built = built.with_transformation(
        DataTransformerConfig(id_val="organize", options={"excludeByName": hidden, "renameByName": named})
    )
    for heading, unit, _ in columns:
        built = built.override_by_name(heading, [DynamicConfigValue(id_val="unit", value=unit)])
    if link:
        opens = [{"title": "Open in MLflow", "url": link, "targetBlank": True}]
        built = built.override_by_name(key, [DynamicConfigValue(id_val="links", value=opens)])
    return built


def _asking(built: object, queries: Iterable[Query]) -> object:
    for number, query in enumerate(queries):
        asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range()
        built = built.with_target(asked.ref_id(chr(ord("A") + number)).datasource(SOURCE))
    return built


def _steps(levels: Levels) -> object:
    steps = [Threshold(value=value, color=colour) for value, colour in levels]
    if steps[0].value is not None:
        steps.insert(0, Threshold(value=None, color="transparent"))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def row(title: str) -> object:
    """A heading."""
    return dashboard.Row(title)
