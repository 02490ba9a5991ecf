"""Rules by which settings are planned from the data, for methods that learn from images.

After nnU-Net (Isensee et al., Nature Methods 2021): the patch is as large as the median image, the batch what memory
holds beside it, at least two, and at most 5 % of the pixels of the data set. Schedules are those of the RMI paper
(Zhao et al. 2019), whose 30,000 steps on 10,582 images and 6,000 on 367 are both about 300 · √images.

Crop, batch and steps follow from the data and the machine alone, so that methods which are compared share them.
"""

from __future__ import annotations

import math

from miseg.methods.registry import MethodConfig
from miseg.networks.configs import networks_of
from miseg.recipes.planning.pairs import planned_pairs
from miseg.recipes.planning.plan import GIVEN, Given, Machine, MemoryNeeds, PlannedSetting, TrainingPlan
from miseg.recipes.planning.summary import DataSummary, Size

DIVISOR = 32
"""Sides of a crop are its multiples: what encoders of five halvings take without padding."""
CROP_PIXELS = {True: 512**2, False: 256**2}
"""Pixels of a crop at most, on a GPU and without: the published schedules have 513x513."""
BATCH = 16
"""Images of a batch at most: the RMI paper's."""
STEP_PIXELS = {True: BATCH * 512**2, False: 4 * 256**2}
"""Pixels of a batch at most, on a GPU and without."""
SHARE = 0.05
"""Share of the pixels of the training images that a batch has at most (nnU-Net)."""
STEPS_PER_ROOT = 300
"""Steps for each √image, on a GPU; a quarter of them without."""
VALIDATIONS = 10
FEWEST_VALIDATIONS = 2
VALIDATION_SHARE = 0.25
"""Time of all validations, of that of all steps, at most; a validation's pixel takes a third of a step's."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises: both schedules of the RMI paper have it."""
VARIED = 1.5
"""`DataSummary.spread` from which images count as of many sizes."""
ZOOM = 4
"""A crop's sides that the shorter side of the median image has at most."""


def plan(
    data: DataSummary, method: MethodConfig, needs: MemoryNeeds, machine: Machine, given: Given | None = None
) -> TrainingPlan:
    """Settings for training `method` on the data, with a reason each.

    Args:
        data: what is trained on.
        method: the method's settings; those that depend on the crop, such as RMI's DF, are planned too.
        needs: memory of the method, or, where several are compared, the most that one of them takes.
        machine: what it is trained on.
        given: settings that the command line names, by path: they stay, and the others follow from them.

    Raises:
        ValueError: not even two crops of 32x32 fit into the memory.
    """
    given = given or {}
    if method.learns_from_pairs:
        return TrainingPlan(str(data), str(machine), planned_pairs(data, method, machine, given))
    rules = _Rules(data, needs, machine, given)
    resize, crop, batch = rules.resize(), rules.crop(), rules.batch()
    settings = [*resize, crop, batch, *fitted(method, crop.value, given), *rules.augmentation()]
    settings += [*rules.schedule(), *_rates(method, rules.steps, given), rules.loader()]
    return TrainingPlan(str(data), str(machine), tuple(settings))


def fitted(method: MethodConfig, crop: Size | None, given: Given) -> list[PlannedSetting]:
    """Settings of the method that depend on the crop."""
    if crop is None:
        return []
    planned = {f"method.{name}": (value, reason) for name, (value, reason) in method.fitted(*crop).items()}
    if any(path in given for path in planned):
        # They belong together: who gives one has the method's own for the others.
        own = {path: getattr(method, path.removeprefix("method.")) for path in planned}
        planned = {path: (value, "the method's own, beside what is given") for path, value in own.items()}
    return [_or_given(path, value, reason, given) for path, (value, reason) in planned.items()]


def _or_given(path: str, value: object, reason: str, given: Given) -> PlannedSetting:
    return PlannedSetting(path, given[path], GIVEN) if path in given else PlannedSetting(path, value, reason)


class _Rules:
    """The settings of one plan, each from those before it."""

    def __init__(self, data: DataSummary, needs: MemoryNeeds, machine: Machine, given: Given) -> None:
        self.data, self.needs, self.machine, self.given = data, needs, machine, given
        self.device = "a GPU" if machine.gpu else "no GPU"
        budget = given.get("label_budget")
        self.images = data.images if budget is None else min(budget, data.images)
        self.smallest_batch = 2 * machine.workers
        """Batch norm needs two values of each channel, in every process."""
        self._batch: int | None = given.get("batch_size")
        self._crop: Size | None = None
        self._resize: Size | int | None = given.get("augmentation.resize")

    @property
    def _held(self) -> int:
        """Pixels of a batch that the memory of all workers holds."""
        return self.needs.pixels(self.machine.memory) * self.machine.workers

    def crop(self) -> PlannedSetting:
        path = "augmentation.crop"
        if path in self.given:
            self._crop = self.given[path]
            return PlannedSetting(path, self._crop, GIVEN)
        batch = self._batch or self.smallest_batch
        most, limit = CROP_PIXELS[self.machine.gpu], f"of at most {CROP_PIXELS[self.machine.gpu]:,} pixels"
        if STEP_PIXELS[self.machine.gpu] < most * batch:
            most, limit = STEP_PIXELS[self.machine.gpu] // batch, f"so that {batch} of them are a quick step"
        if (held := self._held // batch) < most:
            most, limit = held, f"so that {batch} of them fit into the memory"
        if most < DIVISOR**2:
            raise ValueError(
                f"{self.machine} do not hold a training step of {batch} crops of {DIVISOR}x{DIVISOR}, which takes "
                f"{(self.needs.fixed + batch * DIVISOR**2 * self.needs.per_pixel) / 2**30:.1f} GiB: choose a smaller "
                "network"
            )
        height, width = self.median
        scale = min(1.0, math.sqrt(most / (height * width)))
        crop = _side(height * scale), _side(width * scale)
        while math.prod(crop) > most:  # a side below 32 was raised to it
            crop = max(DIVISOR, crop[0] - DIVISOR), max(DIVISOR, crop[1] - DIVISOR)
        self._crop = crop
        reason = f"the median image, {height}x{width}" + (f", {limit}" if scale < 1 else "")
        return PlannedSetting(path, self._crop, f"{reason}, in multiples of {DIVISOR} (nnU-Net: the median size)")

    def resize(self) -> list[PlannedSetting]:
        """Size at which images are trained on and evaluated; nothing where they stay as they are."""
        path = "augmentation.resize"
        if path in self.given:
            return [PlannedSetting(path, self._resize, GIVEN)]
        why, shorter, sides = "", min(self.data.median), math.isqrt(CROP_PIXELS[self.machine.gpu])
        if shorter > ZOOM * sides:
            self._resize = ZOOM * sides
            why = f"of the shorter side, {shorter} in the median image: a crop sees at least a {ZOOM}th of it"
        # Of a validation's batches, the smallest that a plan may have, of the images that take most.
        held = self.needs.evaluated_pixels(self.machine.memory) // 2
        if math.prod(self._largest) > held:
            # The shorter side is set of all images: the most elongated one takes most.
            longest = max(max(size) / min(size) for size in (*self.data.sizes, *self.data.validation_sizes))
            self._resize = max(1, min(self._resize or shorter, int(math.sqrt(held / longest)) - 1))
            why = f"of the shorter side: two whole images of {_text(self.data.largest)} do not fit into the memory"
        return [] if self._resize is None else [PlannedSetting(path, self._resize, why)]

    @property
    def median(self) -> Size:
        """The median image after resizing."""
        return _resized(self.data.median, self._resize)

    @property
    def _largest(self) -> Size:
        """The image that takes most after resizing."""
        every = (*self.data.sizes, *self.data.validation_sizes)
        return max((_resized(size, self._resize) for size in set(every)), key=math.prod)

    def batch(self) -> PlannedSetting:
        height, width = self._crop or self.median
        limits = {
            f"a step of {STEP_PIXELS[self.machine.gpu]:,} pixels, {self.device}": STEP_PIXELS[self.machine.gpu]
            // (height * width),
            "what the memory holds": self._held // (height * width),
            f"{SHARE:.0%} of the training pixels (nnU-Net)": round(self._training_pixels * SHARE / (height * width)),
            "what validation on whole images holds": self.needs.evaluated_pixels(self.machine.memory)
            * self.machine.workers
            // math.prod(self._largest),
            "the number of training images": self.images,
            f"{BATCH}, the RMI paper's": BATCH,
        }
        limit = min(limits, key=limits.__getitem__)
        batch = limits[limit] // self.smallest_batch * self.smallest_batch
        reason = f"at most {limit}"
        if batch < self.smallest_batch:
            batch, reason = self.smallest_batch, f"the least that batch norm takes; {reason}"
        setting = _or_given("batch_size", batch, reason, self.given)
        self._batch = setting.value
        return setting

    @property
    def _training_pixels(self) -> float:
        pixels = sum(math.prod(_resized(size, self._resize)) for size in self.data.sizes)
        return pixels * self.images / self.data.images

    def augmentation(self) -> list[PlannedSetting]:
        scale: tuple[float, float] | None
        if self._crop is None:
            scale, reason = None, "there is no crop, and the images of a batch are of one size"
        elif self.data.spread > VARIED:
            scale = 0.5, 2.0
            reason = f"sizes differ by {self.data.spread:.1f} a side: as the RMI paper scales VOC"
        else:
            scale, reason = (0.75, 1.25), "images are of about one size: as the RMI paper scales CamVid"
        return [
            _or_given("augmentation.scale", scale, reason, self.given),
            _or_given("augmentation.flip", 0.5, "left and right are alike in most images; 0 where not", self.given),
        ]

    @property
    def steps(self) -> int:
        """Steps of the training."""
        of_images = STEPS_PER_ROOT * math.sqrt(self.images)
        return int(self.given.get("steps", math.ceil(of_images if self.machine.gpu else of_images / 4)))

    def schedule(self) -> list[PlannedSetting]:
        share = "" if self.machine.gpu else "a quarter of it, no GPU: "
        epochs = self.steps * (self._batch or 1) / self.images
        why = f"{share}{STEPS_PER_ROOT} · √{self.images} images, as the RMI paper's schedules; {epochs:.0f} epochs"
        every, times = self._validations()
        return [
            _or_given("steps", self.steps, why, self.given),
            _or_given("validate_every", every, times, self.given),
        ]

    def _validations(self) -> tuple[int, str]:
        """Steps between two validations, and the reason for as many."""
        pixels = sum(math.prod(_resized(size, self._resize)) for size in self.data.validation_sizes)
        of_step = (self._batch or 1) * math.prod(self._crop or self.median)
        in_steps = pixels / (3 * of_step)
        affordable = VALIDATION_SHARE * self.steps / in_steps if in_steps else VALIDATIONS
        number = max(FEWEST_VALIDATIONS, min(VALIDATIONS, int(affordable)))
        fewer = f", each as long as about {in_steps:.0f} steps" if number < VALIDATIONS else ""
        return max(1, math.ceil(self.steps / number)), f"{number} validations{fewer}"

    def loader(self) -> PlannedSetting:
        """GiB of decoded images that are kept, where they fit."""
        needed, room = self.data.decoded_bytes * self.images / self.data.images, self.machine.room
        if needed > room:
            text = f"the images take {needed / 2**30:.1f} GiB decoded, above the {room / 2**30:.1f} for them"
            return _or_given("decoded_gib", 0.0, f"{text}: each epoch decodes them", self.given)
        gib = math.ceil(10 * needed / 2**30) / 10
        return _or_given("decoded_gib", gib, "holds all training images: each is decoded once", self.given)


def _resized(size: Size, resize: Size | int | None) -> Size:
    if resize is None or isinstance(resize, tuple):
        return resize or size
    factor = resize / min(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _side(length: float) -> int:
    return max(DIVISOR, int(length) // DIVISOR * DIVISOR)


def _rates(method: MethodConfig, steps: int, given: Given) -> list[PlannedSetting]:
    pretrained = any(getattr(network, "weights", None) for network in networks_of(method))
    rate, why = (1e-4, "Adam on pretrained weights") if pretrained else (1e-3, "Adam's default, from random weights")
    warm_up = f"{WARM_UP:.0%} of the steps, as the RMI paper's schedules"
    return [
        _or_given("optimiser.name", "adam", "needs the least tuning of its rate", given),
        _or_given("optimiser.learning_rate", rate, why, given),
        _or_given("optimiser.warmup_steps", int(WARM_UP * steps), warm_up, given),
        _or_given("optimiser.power", 0.9, "polynomial decay, as in the RMI paper and nnU-Net", given),
    ]
