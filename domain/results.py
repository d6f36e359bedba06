"""Rich results: tables, charts, images and values that a program showed, as far as they are believed.

A program writes them itself, so they are output like any other: read totally, bounded, never evaluated.
"""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MOST_RESULTS = 24
MOST_ROWS = 100
MOST_COLUMNS = 50
MOST_POINTS = 500

#: Bytes of the JSON that a program may write.
MOST_BYTES = 1 << 20


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


Text = Annotated[str, Field(max_length=500), AfterValidator(_storable)]
Name = Annotated[str, Field(max_length=1024), AfterValidator(_storable)]
Long = Annotated[str, Field(max_length=5000), AfterValidator(_storable)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Cell = bool | Whole | Number | Text | None
Points = Annotated[list[Cell], Field(max_length=MOST_POINTS)]


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Column(_Shown):
    """A column of a table, and what pandas calls its type."""

    name: Text
    dtype: Text


class Table(_Shown):
    """A table: the first rows and columns of a DataFrame or Series."""

    type: Literal["table"]
    columns: Annotated[list[Column], Field(max_length=MOST_COLUMNS)]
    index: Annotated[list[Cell], Field(max_length=MOST_ROWS)]
    rows: Annotated[list[Annotated[list[Cell], Field(max_length=MOST_COLUMNS)]], Field(max_length=MOST_ROWS)]
    total_rows: Count
    total_columns: Count
    truncated: bool


class Series(_Shown):
    """Data of a chart: its first points, and how many there are."""

    kind: Literal["line", "bar", "scatter", "pie", "image"]
    label: Text | None
    x: Points
    y: Points
    points: Count


class Axes(_Shown):
    """One coordinate system of a chart."""

    title: Text | None
    x_label: Text | None
    y_label: Text | None
    x_categories: Annotated[list[Text], Field(max_length=MOST_POINTS)] | None
    y_categories: Annotated[list[Text], Field(max_length=MOST_POINTS)] | None
    series: Annotated[list[Series], Field(max_length=24)]
    truncated: bool


class Chart(_Shown):
    """A figure: the artifact that shows it, and its data where the library gives it."""

    type: Literal["chart"]
    artifact: Name | None
    title: Text | None
    axes: Annotated[list[Axes], Field(max_length=12)]
    truncated: bool


class Image(_Shown):
    """A picture, and its size in pixels."""

    type: Literal["image"]
    artifact: Name | None
    width: Count
    height: Count


class Value(_Shown):
    """The value of the program's last expression, as the interpreter would show it."""

    type: Literal["value"]
    text: Long


Result = Annotated[Table | Chart | Image | Value, Field(discriminator="type")]
_RESULTS: TypeAdapter[list[Result]] = TypeAdapter(Annotated[list[Result], Field(max_length=MOST_RESULTS)])


def believed(said: bytes, artifacts: Collection[str]) -> list[dict[str, Any]] | None:
    """What a program said that it showed; None if that cannot be.

    `artifacts` are the names of those that were kept: a chart points at one of them, or at none.
    """
    if len(said) > MOST_BYTES:
        return None
    try:
        found = _RESULTS.validate_json(said)
    except (ValidationError, RecursionError):
        return None
    for each in found:
        if isinstance(each, Chart | Image) and each.artifact not in artifacts:
            each.artifact = None
    return [each.model_dump() for each in found]
