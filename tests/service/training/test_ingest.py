"""Ray Data hands a trainer the plan that plain generators make, whatever the number of workers."""

import functools
import itertools
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ray.data
import torch

from miseg.data.loading.batches import evaluation_batches, training_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR
from miseg.service.training import decoded_cache
from miseg.service.training import streams as ingest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_here")]


def plain(small, tiny, start=0):
    return training_batches(
        small,
        "train",
        tiny.augmentation,
        seed=tiny.seed,
        order=tiny.order,
        batch_size=tiny.batch_size,
        start_step=start,
        stop_step=tiny.steps,
    )


@pytest.mark.parametrize(
    ("chunk_bytes", "tasks"),
    [(1, 2048), (2**16, 2048), (1, 3)],
    ids=["a task a step", "several steps a task", "several pipelines"],
)
def test_training_stream_is_the_plan_in_order(small, tiny, monkeypatch, chunk_bytes, tasks):
    monkeypatch.setattr(ingest, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(ingest, "SEGMENT_TASKS", tasks)
    convert = ingest.Converter(small, tiny)
    expected = list(plain(small, tiny, start=5))
    found = list(ingest.training_stream(small, tiny, start_step=5))
    assert len(found) == len(expected) == tiny.steps - 5
    for batch, columns in zip(found, expected, strict=True):
        assert batch.ids == tuple(columns["ids"])
        assert torch.equal(batch.images_NCHW, convert(columns).images_NCHW)
        assert torch.equal(batch.labels_NHW, torch.from_numpy(columns["labels"]).long())


@pytest.mark.parametrize(("start", "stop", "largest"), [(0, 20, 27), (5, 24, 1), (7, 8, 4), (3, 3, 4), (2, 100_000, 6)])
def test_tasks_divide_the_steps_and_the_first_has_one(start, stop, largest):
    found = ingest.chunks(start, stop, largest)
    assert list(itertools.chain.from_iterable(found)) == list(range(start, stop))
    sizes = [len(chunk) for chunk in found]
    assert sizes[:1] in ([], [1]) and all(after <= min(largest, 2 * size) for size, after in itertools.pairwise(sizes))
    assert all(size == largest for size in sizes[largest.bit_length() : -1]), "no more tasks than it takes"


@pytest.mark.timeout(120)
def test_a_decoding_task_imports_no_torch(small, tiny, monkeypatch):
    """Neither by the plan nor by the pipeline's settings, which Ray ships with it."""
    # Ray hands a worker's process on to the next task of alike environment: one that measured has torch already.
    own = functools.partialmethod(ray.data.Dataset.map_batches, runtime_env={"env_vars": {"MISEG_TEST_OF": "ingest"}})
    monkeypatch.setattr(ray.data.Dataset, "map_batches", own)
    plan = ingest.training_plan(small, tiny)

    # Pickled by value, as this module imports torch.
    def produce(start):
        for columns in plan(start_step=start, stop_step=start + 1):
            assert columns["ids"]
            yield {"ids": [name for name in sys.modules if name in ("miseg", "torch")]}

    (block,) = ingest._decoded([0], produce, small).iter_batches(batch_size=None, batch_format="numpy")
    assert list(block["ids"]) == ["miseg"]


def test_two_ranks_share_the_batches_of_one(small, tiny):
    tiny = replace(tiny, steps=8)
    ranks = [list(ingest.training_stream(small, tiny, rank=rank, world=2)) for rank in range(2)]
    for columns, first, second in zip(plain(small, tiny), *ranks, strict=True):
        assert first.ids + second.ids == tuple(columns["ids"])


def test_evaluation_stream_gives_every_image_once_over_ranks(small, tiny):
    for world in (1, 3):
        streams = (ingest.evaluation_stream(small, "val", tiny, rank=rank, world=world) for rank in range(world))
        ids = [name for batch in itertools.chain(*streams) for name in batch.ids]
        assert sorted(ids) == sorted(small.read("val", index).id for index in range(small.size("val")))


def test_evaluation_of_images_of_mixed_sizes_keeps_sizes_apart(tiny, mixed_sizes):
    found = {}
    for batch in ingest.evaluation_stream(mixed_sizes, "val", tiny):
        assert batch.images_NCHW.shape[-2:] == batch.labels_NHW.shape[-2:]
        found |= dict.fromkeys(batch.ids, tuple(batch.labels_NHW.shape[-2:]))
    expected = evaluation_batches(mixed_sizes, "val", tiny.augmentation, batch_size=1)
    assert found == {columns["ids"][0]: columns["labels"].shape[1:] for columns in expected}
    assert len(set(found.values())) == 3


def test_standardised_images_have_zero_mean_and_unit_deviation(small, tiny):
    tiny = replace(tiny, augmentation=replace(tiny.augmentation, crop=(48, 64), scale=None, flip=0.0), batch_size=13)
    batch = next(ingest.training_stream(small, replace(tiny, steps=1)))
    assert batch.images_NCHW.mean((0, 2, 3)).abs().max() < 1e-3
    assert (batch.images_NCHW.std((0, 2, 3)) - 1).abs().max() < 1e-3


def same(found, expected):
    for batch, other in zip(found, expected, strict=True):
        assert batch.ids == other.ids
        assert torch.equal(batch.images_NCHW, other.images_NCHW) and torch.equal(batch.labels_NHW, other.labels_NHW)
    return True


@pytest.fixture
def movable(small, tmp_path):
    """A copy of `small`, whose files may go, and another fingerprint, so that nothing of it is kept yet."""
    packed = shutil.copytree(small.uri, tmp_path / "packed")
    (packed / SIDECAR).write_text((packed / SIDECAR).read_text() + "\n")
    return PackedDataset.open(packed)


def test_from_the_second_epoch_on_nothing_is_decoded_and_batches_stay_the_same(movable, tiny):
    expected = list(ingest.training_stream(movable, tiny))
    of_val = list(ingest.evaluation_stream(movable, "val", tiny))
    kept = decoded_cache.keeping(movable, tiny, 2**27)
    # Two trials at a time, of which one decodes what the other has not yet.
    both = zip(ingest.training_stream(kept, tiny), ingest.training_stream(kept, tiny), strict=True)
    assert same(itertools.chain(*both), itertools.chain(*zip(expected, expected, strict=True)))
    assert same(ingest.evaluation_stream(kept, "val", tiny), of_val)
    for shard in Path(movable.uri).glob("*.parquet"):
        shard.unlink()
    resumed = ingest.training_stream(kept, tiny, start_step=5)
    assert same(resumed, expected[5:])
    assert same(ingest.evaluation_stream(kept, "val", tiny), of_val)


def test_two_ranks_share_what_is_kept(small, tiny):
    tiny = replace(tiny, steps=8)
    kept = decoded_cache.keeping(small, tiny, 2**27)
    ranks = [list(ingest.training_stream(kept, tiny, rank=rank, world=2)) for rank in range(2)]
    for columns, first, second in zip(plain(small, tiny), *ranks, strict=True):
        assert first.ids + second.ids == tuple(columns["ids"])


def test_what_does_not_fit_is_not_kept(small, tiny):
    needed = small.decoded_bytes("train")
    assert decoded_cache.keeping(small, tiny, needed).decoded_images is not None
    assert (
        decoded_cache.keeping(small, tiny, needed - 1).decoded_images is None
        and decoded_cache.keeping(small, tiny, 0).decoded_images is None
    )
    few = replace(tiny, label_budget=2)
    assert decoded_cache.keeping(small, few, -(-needed * 2 // 13)).decoded_images is not None


@pytest.mark.timeout(180)
def test_a_ray_of_this_machine_alone_takes_what_it_kept_with_it(small):
    code = (
        "import sys\n"
        "from miseg.data.packed.dataset import PackedDataset\n"
        "from miseg.recipes.experiment import Experiment\n"
        "from miseg.service.cluster import ray_cluster\n"
        "from miseg.service.training import decoded_cache, streams\n"
        "ray_cluster.connect('local'); dataset = PackedDataset.open(sys.argv[1])\n"
        "kept = decoded_cache.keeping(dataset, Experiment(data=sys.argv[1], steps=2), 2**27)\n"
        "list(streams.training_stream(kept, Experiment(data=sys.argv[1], steps=2)))\n"
        "assert kept.decoded_images.taken() > 48 * 64 * 4; print(kept.decoded_images.folder)"
    )
    done = subprocess.run([sys.executable, "-c", code, small.uri], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.split()[-1])
    assert folder.parent.is_dir() and not folder.exists()
