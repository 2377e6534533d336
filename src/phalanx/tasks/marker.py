"""The marker loss of a classification's training: what it needs of the data set and the network, and its value."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..config import ClassifyConfig
from ..data.dataset import LabelledBatch
from ..data.records import Record
from ..data.regions import check_regions, region_count
from ..errors import ConfigError
from ..losses.marker import heatmap_loss, outside_loss, region_maps
from ..models.classifier import Classifier


class MarkerTerm:
    """The marker loss of batches with regions; see losses/marker.py.

    Args:
        config: with ``loss.marker``.
        network: whose features are located.
        train: the training images.

    Raises:
        DataError: there are no regions of these images.
        ConfigError: the network has no features that fit them.
    """

    def __init__(self, config: ClassifyConfig, network: Classifier, train: Sequence[Record]):
        assert config.loss.marker is not None
        self.options, self.network, self.regions = config.loss.marker, network, region_count(config.data)
        check_regions(train, config.data)
        if network.layout is None:
            channels, name = 3 if config.data.colour else 1, f"model.encoder={config.model.encoder}"
            network.locate(size=config.data.size, channels=channels, name=name)
        assert network.layout is not None
        self.layout = network.layout
        found, wanted = self.layout.channels, network.head.in_features
        if self.options.kind == "outside" and found != wanted:
            raise ConfigError(
                f"loss.marker.kind=outside: the head of {config.model.encoder} weighs {wanted} features and its last "
                f"map has {found}, so classes have no map; use kind=heatmap, or another model.encoder"
            )

    def __call__(self, maps: Any, batch: LabelledBatch) -> Tensor:
        """The loss float[B] of the images of a batch.

        Args:
            maps: as of :meth:`~phalanx.models.classifier.Classifier.with_maps`.
        """
        assert isinstance(batch.regions, Tensor)  # as the training set makes them
        regions, known = region_maps(batch.regions, self.regions, self.layout.side)
        if self.options.kind == "heatmap":
            return heatmap_loss(maps, regions, known)
        return outside_loss(maps, self.network.head.weight, batch.labels, regions, known)
