"""A variational autoencoder of patches: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014."""

from __future__ import annotations

import torch
from torch import nn

from miseg.interface import Batch, Step, Task
from miseg.methods.configs import PatchAutoencoder
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.networks.patches import PatchDecoder


class PatchAutoencoderMethod(NearestLabelMethod):
    """A representation from which a patch can be drawn again; what is compared is the posterior's mean.

    The posterior is a normal distribution with independent components, the prior the standard normal, and pixels are
    normal with variance 1 about the decoder's (arXiv:1312.6114, equation 10 with one sample, and appendix B).
    """

    def __init__(self, config: PatchAutoencoder, task: Task) -> None:
        super().__init__(task, config.encoder, config.compare, config.neighbours)
        self.config = config
        features, size = config.encoder.features[1], config.encoder.local_size
        self.log_variance = nn.Conv2d(features, config.encoder.representation, size)
        self.decoder = PatchDecoder(config.encoder, task.in_channels)

    def forward(self, batch: Batch) -> Step:
        """Terms: half a patch's squared error, and the divergence of its posterior from the prior; counts: patches.

        A second view, where the batch has it, is one more patch. Scalars: `reconstruction` and `divergence`, nats a
        patch; the first without the normal distribution's constant.

        Raises:
            ValueError: patches of another size.
        """
        views = [batch.images_NCHW] if batch.views_NCHW is None else [batch.images_NCHW, batch.views_NCHW]
        patches_NBPP = torch.cat(views)
        local, mean_NZ = self.encoder(patches_NBPP)
        log_variance_NZ = self.log_variance(local).flatten(1)
        sample_NZ = mean_NZ + (0.5 * log_variance_NZ).exp() * torch.randn_like(mean_NZ)
        error = 0.5 * (self.decoder(sample_NZ) - patches_NBPP).float().square().sum()
        with torch.autocast(patches_NBPP.device.type, enabled=False):
            mean_NZ, log_variance_NZ = mean_NZ.float(), log_variance_NZ.float()
            divergence = -0.5 * (1 + log_variance_NZ - mean_NZ.square() - log_variance_NZ.exp()).sum()
        total = torch.stack([error, self.config.weight * divergence])
        patches = len(patches_NBPP)
        scalars = {"reconstruction": error.detach() / patches, "divergence": divergence.detach() / patches}
        return Step(total, total.new_full((2,), patches), scalars)
