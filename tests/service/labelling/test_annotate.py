"""A labelling session: its maps are those of `miseg segment`, whatever the clicks, and its HTTP lets nobody else in."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from starlette.responses import Response
from starlette.testclient import TestClient

from miseg.data.labels.annotations import read_annotations
from miseg.data.loading import tiles
from miseg.data.loading.tiles import StandardScene
from miseg.data.raster.scene_files import SceneOptions, open_scene, open_series
from miseg.interface import Batch, Task
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.service.checkpoints import checkpoint
from miseg.service.labelling import http, maps
from miseg.service.labelling import session as annotate
from miseg.service.labelling.byte_cache import ByteCache
from miseg.service.labelling.entrance import IN_FLIGHT, BodyLimit
from miseg.service.labelling.maps import Labelled, MapMaker, SupersededError
from miseg.service.labelling.session import FirstView, Session
from tests.support.labelled_fields import write_tiny_model
from tests.support.scene_layouts import place, raster, smooth

SIZE = (40, 50)
BANDS = ("B04", "B03", "B02", "B08")
DATES = ("2019-05-16", "2019-07-20", "2019-08-24")
CLOUDY = "2019-06-01"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny similarity, trained a little."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def method(model: Path) -> NearestLabelMethod:
    found = checkpoint.open_method(model)[0]
    assert isinstance(found, NearestLabelMethod)
    return found


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dates, one of them with a cloud over rows 24 to 26, and one without data."""
    folder = tmp_path_factory.mktemp("series")
    for number, date in enumerate(DATES):
        noise = np.random.default_rng(number).normal(0, 150, (*SIZE, 4))
        raster(folder / f"{date}.tif", (smooth(SIZE, place()) * (1 + number / 9) + noise).round().astype(np.uint16))
    classes = np.full(SIZE, 4, np.uint8)
    classes[24:27, :9] = 9
    raster(folder / f"{DATES[1]}_SCL.tif", classes)
    raster(folder / f"{CLOUDY}.tif", np.zeros((*SIZE, 4), np.uint16))
    return folder


@pytest.fixture
def session(method: NearestLabelMethod, series: Path, tmp_path: Path) -> Iterator[Session]:
    scenes = {str(scene.date): scene for scene in open_series(series, SceneOptions(bands=BANDS))}
    found = Session(method, scenes, tmp_path / "labels", FirstView("place"))
    yield found
    found.close()


def draw(session: Session, name: str, geometry: dict, scene: str = DATES[1]) -> str:
    """A drawing of the class of that name, which is added where it is not there; the drawing's id."""
    id = f"d{session.store.revision}"
    if session.store.drawings.named(name) is None:
        session.store.apply(session.store.revision, {"do": "add_class", "id": f"c-{name}", "name": name})
    change = {"do": "draw", "id": id, "class_id": f"c-{name}", "scene": scene, "geometry": geometry}
    session.store.apply(session.store.revision, change)
    return id


def point(row: int, column: int) -> dict:
    return {"type": "Point", "coordinates": [column + 0.5, row + 0.5]}


def box(top: int, left: int, bottom: int, right: int) -> dict:
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [corners]}


def some(session: Session, scene: str = DATES[1]) -> None:
    """Points, a line and a box of three classes whose names are not in the order in which they are drawn."""
    draw(session, "wheat", point(5, 6), scene)
    draw(session, "maize", {"type": "LineString", "coordinates": [[8.2, 30.1], [12.7, 33.4], [13.1, 38.9]]}, scene)
    draw(session, "beet", box(18, 24, 22, 29), scene)
    draw(session, "wheat", point(35, 45), scene)
    draw(session, "maize", point(39, 49), scene)


def same(made, expected: tuple[np.ndarray, np.ndarray]) -> None:
    """The same map but where two classes are as good as equal."""
    classes, confidence = expected
    np.testing.assert_allclose(made.confidence, confidence, atol=1e-4)
    assert ((made.classes == classes) | (confidence < 1e-4)).all()


# Maps


@pytest.mark.parametrize("tile", [512, 16])
def test_patches_are_those_that_a_method_takes_for_examples(method, series, monkeypatch, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    standard = StandardScene.measure(open_scene(series / f"{DATES[0]}.tif", SceneOptions(bands=BANDS)))
    rows, columns = np.array([0, 0, 5, 15, 16, 39, 39]), np.array([0, 49, 6, 15, 47, 48, 49])
    whole = standard.tile((0, 0, *SIZE), 0).images
    labels = torch.full((1, *SIZE), 255)
    labels[0, rows, columns] = 0
    method.fit_support([Batch(torch.from_numpy(whole), labels)])
    assert method.support is not None
    np.testing.assert_allclose(standard.patches(rows, columns, 7), method.support.patches_LBPP.numpy(), rtol=1e-6)


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("compare", ["local", "global", "representation", "patches", "pixels"])
def test_a_map_after_clicks_is_the_map_that_the_method_makes_at_once(session, method, compare, neighbours):
    """Points, a line and a box, one after the other, one undone, on two dates; against one call with all labels."""
    method.neighbours = neighbours
    some(session)
    for date in (DATES[1], DATES[0]):
        session.map(date, compare)
    removed = draw(session, "wheat", box(0, 30, 6, 36))
    session.map(DATES[0], compare)
    session.store.undo(session.store.revision)
    assert removed not in {one.id for one in session.store.drawings.drawings}
    draw(session, "beet", point(12, 40), DATES[2])
    made = session.map(DATES[0], compare)
    assert made.whole and len(np.unique(made.classes)) > 1

    reference = checkpoint_copy(method)
    used = session.current_labels()
    names = {one.id: one.name for one in session.store.drawings.classes}
    assert [names[id] for id in used.class_ids] == ["beet", "maize", "wheat"]
    batches = []
    for date in DATES:
        labels = torch.full((1, *SIZE), 255)
        for one in used.labelled:
            if one.scene == date:
                labels[0, one.rows, one.columns] = one.label
        batches.append(Batch(torch.from_numpy(session.maps.standard(date).tile((0, 0, *SIZE), 0).images), labels))
    reference.fit_support(batches)
    image = torch.from_numpy(session.maps.standard(DATES[0]).tile((0, 0, *SIZE), 0).images)
    probabilities = reference.predict_by(compare, image)[0]
    best, second = probabilities.topk(2, dim=0).values
    confidence = ((best - second) / (best + second)).numpy()
    same(made, (probabilities.argmax(0).numpy(), confidence))


def checkpoint_copy(method: NearestLabelMethod) -> NearestLabelMethod:
    import copy

    found = copy.deepcopy(method)
    found.task = Task(3, 4)
    return found


@pytest.mark.parametrize("window", [None, (9, 13, 20, 30)])
def test_exported_labels_give_jobs_segment_the_same_map(session, model, method, series, tmp_path, window):
    from miseg.service.mapping import scene_maps

    some(session)
    if window is not None:
        session.close()
        scenes = session.scenes
        session = Session(method, scenes, tmp_path / "labels", FirstView(window=window))
    made = session.map(DATES[1], "local")
    name, content = session.export("geojson", DATES[1])
    assert (session.folder / name).read_bytes() == content and name == f"{DATES[1]}-labels.geojson"

    standard = StandardScene.measure(open_scene(series / f"{DATES[1]}.tif", SceneOptions(bands=BANDS)))
    annotations, problems = read_annotations(session.folder / name, standard.scene.grid, standard.valid_at)
    assert not problems
    examples = scene_maps.Examples(tuple(standard.examples(annotations, 7)), annotations.classes)
    opened = scene_maps.open_for_maps(model, examples, scene_maps.NeighbourSettings("local"), CPU)
    expected = scene_maps.map_window(opened, standard, window or (0, 0, *SIZE), CPU)
    same(made, expected)

    name, content = session.export("map", DATES[1], "local")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.namelist()
        archive.extractall(tmp_path / "unpacked")
    stem = f"{DATES[1]}-map"
    assert (name, parts) == (f"{stem}.zip", [f"{stem}.tif", f"{stem}.tif.aux.xml", f"{stem}_confidence.tif"])
    with rasterio.open(tmp_path / "unpacked" / f"{stem}.tif") as source:
        assert np.array_equal(source.read(1), made.classes)
        row, column, *_ = window or (0, 0)
        assert (source.transform.c, source.transform.f) == (place().c + 10 * column, place().f - 10 * row)
        assert source.colormap(1)[0][:3] == (44, 160, 44), "beet was the third class to be added"
    session.close()


def test_what_a_click_adds_is_all_that_is_compared(session, monkeypatch):
    some(session)
    session.map(DATES[0], "local")
    compared = []
    score = MapMaker._scored

    def counted(self, scene, compare, labelled, *rest, **more):
        there = (scene, compare, labelled.pixels) in self._scores
        compared.append(0 if there else len(labelled.rows))
        return score(self, scene, compare, labelled, *rest, **more)

    monkeypatch.setattr(MapMaker, "_scored", counted)
    draw(session, "beet", point(30, 40))
    session.map(DATES[0], "local")
    assert sum(compared) == 1 and len(compared) == 6


def test_large_drawings_are_thinned_out_first_and_compared_whole_after(session, monkeypatch):
    some(session)
    draw(session, "wheat", box(0, 30, 12, 45))
    whole = session.map(DATES[0], "local")
    session.maps._scores = ByteCache(maps.SCORE_BYTES)
    monkeypatch.setattr(annotate, "QUICK_SECONDS", 20.5 * session.maps._prepared(DATES[0], "local").seconds)
    quick = session.map(DATES[0], "local", whole=False)
    assert not quick.whole and len(np.unique(quick.classes)) > 1
    assert (quick.classes == whole.classes).mean() > 0.5
    again = session.map(DATES[0], "local", whole=True)
    assert again.whole and np.array_equal(again.classes, whole.classes)
    known = session.map(DATES[0], "local", whole=False)
    assert known.whole and np.array_equal(known.classes, whole.classes)


def test_a_map_that_nobody_waits_for_is_given_up(session, monkeypatch):
    some(session)
    monkeypatch.setattr(maps, "CHUNK_BYTES", 1)
    asked = []

    def superseded() -> bool:
        asked.append(None)
        return len(asked) > 4

    used = session.current_labels()
    with pytest.raises(SupersededError):
        session.maps.make(DATES[0], "local", used.labelled, 3, superseded=superseded)
    assert len(asked) == 5
    session._tickets["tab"] = 8
    with pytest.raises(SupersededError):
        session.map(DATES[0], "local", client="tab", ticket=7)
    assert session.map(DATES[0], "local", client="tab", ticket=8).whole
    session.close()
    with pytest.raises(SupersededError):
        session.map(DATES[0], "local", client="tab", ticket=9)


def test_what_is_kept_has_a_limit():
    kept: ByteCache[str] = ByteCache(10)
    for key in "abc":
        kept.put(key, key.upper(), 4)
    assert kept.get("a") is None and kept.get("b") == "B" and kept.used == 8
    kept.put("d", "D", 4)
    assert kept.get("c") is None and kept.get("b") == "B", "the longest unused goes"
    kept.put("large", "L", 99)
    assert kept.get("large") == "L" and kept.used == 99 and kept.get("b") is None


def test_the_thinned_pixels_are_of_every_class_and_scene():
    many = Labelled("a", 0, np.arange(100), np.arange(100))
    few = Labelled("a", 1, np.array([7]), np.array([8]))
    other = Labelled("b", 0, np.arange(5), np.arange(5))
    thinned = maps._thinned([many, few, other], 9)
    assert {(one.scene, one.label): one.rows.tolist() for one in thinned} == {
        ("a", 0): [0, 50, 99],
        ("a", 1): [7],
        ("b", 0): [0, 2, 4],
    }


# The session


def test_what_is_left_out_is_told_by_drawing(session):
    cloud = draw(session, "wheat", box(22, 2, 30, 6))
    twice = draw(session, "maize", box(22, 2, 24, 4))
    gone = draw(session, "maize", point(5, 5), CLOUDY)
    out = draw(session, "maize", box(36, 44, 60, 60))
    used = session.current_labels()
    assert "12 of 32 pixels (first row 24, column 2) are on nodata or cloud" in used.problems[cloud][0]
    assert "4 of 32 pixels (first row 22, column 2) are labelled with another class too" in used.problems[cloud][1]
    assert "labelled with another class too" in used.problems[twice][0]
    assert "no valid pixel" in used.problems[gone][0]
    assert "the 24 pixels inside are used" in used.problems[out][0]
    assert sum(len(one.rows) for one in used.labelled) == 16 + 24 and len(used.class_ids) == 2
    assert session.state()["problems"] == used.problems
    classes = session.map(DATES[1], "local").classes
    assert (classes[24:27, :9] == 255).all() and (classes != 255).sum() == 40 * 50 - 27
    with pytest.raises(ValueError, match="no valid pixel"):
        session.map(CLOUDY, "local")


def test_a_map_wants_two_labelled_classes(session):
    with pytest.raises(ValueError, match="label at least two classes"):
        session.map(DATES[1], "local")
    draw(session, "wheat", point(5, 6))
    session.store.apply(2, {"do": "add_class", "id": "m", "name": "maize"})
    with pytest.raises(ValueError, match="label at least two classes"):
        session.map(DATES[1], "local")


def test_dates_are_prepared_beside_the_shown_one_first(session):
    session._shown = DATES[2], "local"
    order = []
    prepare = session.maps.prepare

    def noted(scene: str, compare: str) -> bool:
        order.append(scene)
        if len(order) == 4:
            session._closed.set()
        return prepare(scene, compare)

    session.maps.prepare = noted
    session.prepare_all()
    assert order == [DATES[2], DATES[1], CLOUDY, DATES[0]]
    assert session.progress("local") == {"ready": 4, "of": 4, "full": False, "revision": 0}


def test_the_image_is_in_natural_colours_with_nodata_in_grey(session):
    picture = Image.open(io.BytesIO(session.image(DATES[0])))
    assert picture.size == (50, 40) and picture.mode == "RGB"
    empty = np.asarray(Image.open(io.BytesIO(session.image(CLOUDY))))
    assert (empty == 205).all()


def test_an_image_without_georeference_is_labelled_in_pixels(method, tmp_path):
    noise = np.random.default_rng(5).integers(1, 255, (30, 36, 4), dtype=np.uint8)
    Image.fromarray(noise, "RGBA").save(tmp_path / "photo.png")
    scene = open_scene(tmp_path / "photo.png", SceneOptions(bands=("red", "green", "blue", "near")))
    session = Session(method, {"photo": scene}, tmp_path / "labels")
    for name, at in (("a", point(3, 4)), ("b", point(20, 30))):
        draw(session, name, at, "photo")
    made = session.map("photo", "representation")
    assert (made.classes[3, 4], made.classes[20, 30]) == (0, 1)
    assert session.view()["image"]["crs"] is None
    found = json.loads(session.export("geojson", "photo")[1])
    assert [one["geometry"]["coordinates"] for one in found["features"]] == [[4.5, 3.5], [30.5, 20.5]]
    told = session.load("again.geojson", json.dumps(found).encode(), "photo")
    assert told == {"added": 0, "found": 2, "problems": []}
    session.close()


def test_loading_is_one_change_that_can_be_undone(session):
    some(session)
    _, content = session.export("labels", DATES[1])
    before = session.store.drawings
    told = session.load(r"C:\Users\me\labels.zip", content, DATES[0])
    assert told["added"] == 3 and told["problems"] == []
    session.store.undo(session.store.revision)
    assert session.store.drawings == before
    with pytest.raises(ValueError, match=r"^bad\.geojson: broken JSON"):
        session.load("../../bad.geojson", b"{", DATES[0])
    with pytest.raises(ValueError, match="give it another name"):
        session.load("x" * 300 + ".geojson", b"{}", DATES[0])


def test_models_and_scenes_that_do_not_fit_are_told(method, series, tmp_path):
    scene = open_scene(series / f"{DATES[0]}.tif", SceneOptions(bands=BANDS))
    with pytest.raises(ValueError, match="window = "):
        Session(method, {"a": scene}, tmp_path, FirstView(window=(0, 0, 41, 50)))
    small = open_scene(raster(tmp_path / "s.tif", np.ones((5, 50, 4), np.uint16)), SceneOptions(bands=BANDS))
    with pytest.raises(ValueError, match="5 x 50 pixels are smaller than a patch of 7"):
        Session(method, {"a": small}, tmp_path)
    three = open_scene(raster(tmp_path / "t.tif", np.ones((9, 9, 3), np.uint16)), SceneOptions(bands=BANDS[:3]))
    with pytest.raises(ValueError, match="3 bands, the model was trained on 4: give --bands"):
        Session(method, {"a": three}, tmp_path)
    assert annotate.middle(5000, 300) == (1988, 0, 1024, 300)


# HTTP


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<title>page</title>")
    (tmp_path / "secret").write_text("secret")
    return folder


@pytest.fixture
def client(session: Session, page: Path) -> Iterator[TestClient]:
    app = http.application(session, page, ["127.0.0.1"])
    with TestClient(app, base_url="http://127.0.0.1", headers={"X-Miseg": "1"}) as found:
        yield found


def test_the_page_does_over_http_what_the_session_does(client, session):
    assert "page" in client.get("/").text
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy
    assert client.get("/api/view").json()["scenes"] == list(session.scenes)
    asked = {"scene": DATES[1], "compare": "local", "client": "x", "ticket": "1", "whole": "true"}
    assert client.get("/api/map", params=asked).json() == {"empty": True}
    some(session)
    answer = client.get("/api/map", params=asked)
    told = json.loads(answer.headers["x-miseg-map"])
    values = np.frombuffer(answer.content, np.uint8).reshape(2, *SIZE)
    made = session.map(DATES[1], "local")
    assert np.array_equal(values[0], made.classes) and told["whole"]
    assert told["pixels"] == sum(len(one.rows) for one in session.current_labels().labelled) > 24
    assert np.abs(values[1] / 255 - made.confidence).max() <= 0.5 / 255 + 1e-6
    assert client.get("/api/image", params={"scene": DATES[1]}).headers["content-type"] == "image/png"

    revision = session.store.revision
    change = {"do": "erase", "ids": ["d2"]}
    state = client.post("/api/change", json={"revision": revision, "change": change}).json()
    assert state["revision"] == revision + 1 and len(state["drawings"]) == 4
    stale = client.post("/api/undo", json={"revision": revision})
    assert stale.status_code == 409 and stale.json()["stale"]
    assert len(client.post("/api/undo", json={"revision": revision + 1}).json()["drawings"]) == 5
    assert len(client.post("/api/redo", json={"revision": revision + 2}).json()["drawings"]) == 4
    exported = client.post("/api/export", params={"kind": "all", "scene": DATES[1]})
    assert exported.headers["content-disposition"] == 'attachment; filename="labels.geojson"'
    loaded = client.post("/api/load", params={"scene": DATES[1], "name": "a.geojson"}, content=exported.content)
    assert loaded.json()["added"] == 0 and loaded.json()["state"]["revision"] == revision + 3
    assert client.get("/api/progress", params={"compare": "local"}).json()["of"] == 4


def test_bad_requests_are_told_and_change_nothing(client, session):
    def said(path: str, **request) -> str:
        answer = client.post(f"/api/{path}", **request)
        assert answer.status_code == 422, answer.text
        return answer.json()["error"]

    assert "no JSON" in said("change", content=b"{")
    assert "no JSON object" in said("change", content=b"[]")
    assert "revision = None" in said("change", json={})
    assert "revision = 'x'" in said("undo", json={"revision": "x"})
    assert "change is no object" in said("change", json={"revision": 0, "change": 3})
    assert "there is no scene '../../etc'" in said("load", params={"scene": "../../etc", "name": "a.json"}, content=b"")
    assert "is no FeatureCollection" in said("load", params={"scene": DATES[0], "name": "a.json"}, content=b"{}")
    assert client.get("/api/image", params={"scene": "/etc/passwd"}).status_code == 422
    assert "export '../x'" in said("export", params={"kind": "../x", "scene": DATES[0]})
    assert client.get("/api/map", params={"scene": DATES[0], "compare": "x"}).json() == {"empty": True}
    assert client.get("/api/progress", params={"compare": "x"}).status_code == 422
    assert session.store.revision == 0


@pytest.mark.parametrize("ticket", [None, "", "x", "-1", "1.5", "\u0663", "1_0", "9" * 5000])
def test_a_map_request_wants_a_ticket(client, session, ticket):
    """Without one no later request could supersede it; Python's own texts say nothing to who labels."""
    some(session)
    asked = {"scene": DATES[1], "compare": "local", "client": "x"} | ({} if ticket is None else {"ticket": ticket})
    answer = client.get("/api/map", params=asked)
    assert answer.status_code == 422, answer.text
    said = answer.json()["error"]
    assert said.startswith("ticket = ") and said.endswith(": a number is expected; reload the page") and len(said) < 200
    assert client.get("/api/map", params=asked | {"ticket": "1"}).status_code == 200


@pytest.mark.parametrize("wrong", [{"scene": "none"}, {"scene": ""}, {"compare": "x"}, {"compare": "../x"}])
def test_a_map_of_what_is_not_there_is_told(client, session, wrong):
    some(session)
    asked = {"scene": DATES[1], "compare": "local", "client": "x", "ticket": "1"} | wrong
    answer = client.get("/api/map", params=asked)
    assert answer.status_code == 422 and answer.json()["error"], answer.text
    revisions = (True, 1.5, None, [1])
    for revision in revisions:
        undone = client.post("/api/undo", json={"revision": revision})
        assert undone.status_code == 422 and "a number is expected" in undone.json()["error"]


def test_no_name_leads_out_of_the_pages_folder(client, page):
    for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret", "//etc/passwd", "/%2fetc/passwd", "/./../secret"):
        answer = client.get(path)
        assert answer.status_code in (400, 404) and "secret" not in answer.text, path
    (page / "link").symlink_to(page.parent / "secret")
    assert client.get("/link").status_code == 404


def test_large_bodies_are_cut_off(client):
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 2**20

    for path, most in (("change", 1), ("load", 16)):
        arguments = {"scene": DATES[0], "name": "a.json"}
        answer = client.post(f"/api/{path}", params=arguments, content=bytes((most << 20) + 1))
        assert answer.status_code == 413 and f"more than {most} MiB" in answer.json()["error"]
        answer = client.post(f"/api/{path}", params=arguments, content=endless())
        assert answer.status_code == 411 and "Content-Length" in answer.json()["error"]


def test_strangers_are_refused(session, page):
    app = http.application(session, page, ["127.0.0.1"], token="right")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/").status_code == 200
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
            for path in ("view", "state", "image", "map", "progress"):
                assert client.get(f"/api/{path}", headers=header).status_code == 401
            for path in ("change", "undo", "redo", "load", "export"):
                assert client.post(f"/api/{path}", headers=header | {"X-Miseg": "1"}).status_code == 401
        right = {"Authorization": "Bearer right", "X-Miseg": "1"}
        assert client.get("/api/view", headers=right).status_code == 200
        # A form of another site sends no header of its own.
        right.pop("X-Miseg")
        refused = client.post("/api/undo", headers=right, content=b'{"revision": 0}')
        assert refused.status_code == 403
        # Nor do its pictures and links, which have maps computed and files written.
        for path in ("map", "image", "state", "export"):
            asked = client.get(f"/api/{path}", headers=right, params={"kind": "all", "scene": DATES[0], "ticket": "1"})
            assert asked.status_code == (404 if path == "export" else 403)
        assert not list(session.folder.glob("*.geojson"))
        right["X-Miseg"] = "1"
        # A name that was bound to this address by whoever owns it (DNS rebinding).
        assert client.get("/api/view", headers=right | {"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("address", ["127.0.0.1:8300", "localhost", "[::1]:8300", "[::1]"])
def test_the_page_answers_at_each_name_of_the_loopback(session, page, address: str) -> None:
    app = http.application(session, page, ["127.0.0.1", "localhost", "::1"])
    with TestClient(app, headers={"X-Miseg": "1"}) as client:
        for host, status in ((address, 200), ("evil.example", 400), ("[::2]:8300", 400), ("::1", 400)):
            assert client.get("/api/progress?compare=local", headers={"Host": host}).status_code == status


def test_a_full_disk_is_told(client, session):
    (session.folder / ".labels.json.writing").mkdir()
    body = {"revision": 0, "change": {"do": "add_class", "id": "a", "name": "a"}}
    answer = client.post("/api/change", json=body)
    assert answer.status_code == 507 and "could not be saved" in answer.json()["error"]
    (session.folder / ".labels.json.writing").rmdir()
    assert client.post("/api/change", json=body).json()["revision"] == 1


def test_bodies_that_are_too_much_together_wait_outside() -> None:
    """Forty of 15 MiB at once: what is read stays below the limit, and all get an answer."""
    reading, most_read, answers = 0, 0, Counter()

    async def app(scope, receive, send) -> None:
        nonlocal reading, most_read
        reading += 15 << 20
        most_read = max(most_read, reading)
        await asyncio.sleep(0.01)
        reading -= 15 << 20
        await Response(status_code=204)(scope, receive, send)

    limit = BodyLimit(app)

    async def ask() -> None:
        async def receive() -> dict:
            pytest.fail("nothing is read before it is let in")

        async def send(message: dict) -> None:
            if message["type"] == "http.response.start":
                answers[message["status"]] += 1

        scope = {"type": "http", "headers": [(b"content-length", str(15 << 20).encode())]}
        await limit(scope, receive, send)

    async def all_at_once() -> None:
        await asyncio.gather(*(ask() for _ in range(40)))

    asyncio.run(all_at_once())
    assert most_read <= IN_FLIGHT and answers == {204: 2, 503: 38} and limit.reserved == 0
    asyncio.run(ask())
    assert answers[204] == 3, "what was answered is free again"


@pytest.mark.parametrize("length", [b"-1", b"x", b"1e3", b"9" * 5000, "²".encode("latin-1")])
def test_a_length_that_is_none_is_refused(length: bytes) -> None:
    statuses = []

    async def send(message: dict) -> None:
        statuses.append(message.get("status"))

    asyncio.run(BodyLimit(None)({"type": "http", "headers": [(b"content-length", length)]}, None, send))
    assert statuses[0] == 411
