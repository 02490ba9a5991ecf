"""Dates from names: the usual notations, products, formats, tables; what is not clear is asked."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from miseg.data.series.dates import DateRule, UnclearDateError, by_format, dates_in, day_first_in, read_dates


@pytest.mark.parametrize(
    "name",
    [
        "2019-07-20.tif",
        "20190720",
        "field_20190720T105031_b",
        "2019_07_20",
        "2019.07.20",
        "2019201",
        "S2A_MSIL2A_20190720T105031_N0213_R051_T31UES_20190801T135643.SAFE",
        "LC08_L2SP_198025_20190720_20200827_02_T1_SR_B4.TIF",
        "HLS.S30.T31UES.2019201T105031.v2.0.B04.tif",
        "MOD13Q1.A2019201.h18v03.006.2019218043516.tif",
        "20190720_105031_1_1003_3B_AnalyticMS_SR.tif",
        "S1A_IW_GRDH_1SDV_20190720T055555_20190720T055620_028.tif",
        "20190720105031_x",
        "quad_2012345_20190720",
    ],
)
def test_notations(name):
    assert dates_in(name) == ["2019-07-20"] and day_first_in(name) is None


def test_every_day_in_every_notation():
    for number in range(0, 3000, 7):
        day = date(2016, 1, 1) + timedelta(number)
        for pattern in ("%Y-%m-%d", "x_%Y%m%d_y", "%Y%j", "a%Y%jT010203", "%Y.%m.%d", "%Y%m%d%H%M%S"):
            assert dates_in(f"{day:{pattern}}.tif") == [day.isoformat()], pattern
        assert day_first_in(f"{day:%d-%m-%Y}") and not dates_in(f"{day:%d-%m-%Y}")
        assert by_format(f"a_{day:%d.%m.%Y}_b.tif", "%d.%m.%Y") == [day.isoformat()]


@pytest.mark.parametrize("name", ["4709963", "20191320", "201907201", "2019-0720", "patch_0", "19990230", "2019400"])
def test_no_date(name):
    assert dates_in(name) == []


def test_what_is_not_clear_is_asked():
    with pytest.raises(UnclearDateError, match=r"several dates, 2019-07-01, 2019-07-20: .*--dates"):
        DateRule().date(Path("a/mosaic_20190701_20190720.tif"))
    for name in ("20-07-2019.tif", "07_20_2019.tif", "20072019.tif"):
        with pytest.raises(UnclearDateError, match="day or month first: say --date-format"):
            DateRule().date(Path(name))
    assert DateRule("%d-%m-%Y").date(Path("05-07-2019.tif")) == "2019-07-05"
    assert DateRule("%m-%d-%Y").date(Path("05-07-2019.tif")) == "2019-05-07"


def test_a_folder_dates_what_has_no_date_of_its_own():
    assert DateRule().date(Path("2019-07-20/B04.tif")) == "2019-07-20"
    assert DateRule().date(Path("2019-01-01/x_20190720_B04.tif")) == "2019-07-20"
    assert DateRule().date(Path("scenes/B04.tif")) is None


@pytest.mark.parametrize("pattern", ["%Y", "%d-%m", "%Y-%q-%d", "dates"])
def test_formats_that_give_no_day(pattern):
    with pytest.raises(ValueError, match=f"--date-format {pattern}"):
        by_format("x", pattern)


def test_tables(tmp_path):
    table = tmp_path / "dates.csv"
    for text in ("a.tif,2019-07-20\nb.tif,2019-08-01\n", "date;x\n", "acquired,file\n2019-07-20T10:50:31,a.tif\n"):
        table.write_text(text)
        if ";" in text:
            with pytest.raises(ValueError, match=r"dates\.csv:1: 'date;x' is no line file,date"):
                read_dates(table)
        else:
            assert DateRule(table=read_dates(table)).date(Path("anywhere/a.tif")) == "2019-07-20"
    by_path = DateRule(table={"one/a.tif": "2019-07-20", "two/a.tif": "2019-08-01"})
    assert [by_path.date(Path(f"/x/{name}/a.tif")) for name in ("one", "two")] == ["2019-07-20", "2019-08-01"]
    assert DateRule(table={"a": "2019-07-20"}).date(Path("20200101/20200101.tif")) is None, "the table alone counts"
    table.write_text("a.tif,20.07.2019\n")
    with pytest.raises(ValueError, match=r"dates\.csv:1: 'a\.tif,20\.07\.2019'"):
        read_dates(table)
    table.write_text("a.tif,2019-07-20\na.tif,2019-07-21\n")
    with pytest.raises(ValueError, match=r"a\.tif has two dates"):
        read_dates(table)
    table.write_text("\n")
    with pytest.raises(ValueError, match="names no date"):
        read_dates(table)
