"""The ``trellis`` channel in the walk of the refinement: paths are searched for as in files, then their symbols are held."""

import numpy as np
import torch
from torch import Tensor

from flowcodec.model.walk import MAGNITUDES, Cells, slopes_of
from flowcodec.runtime.bundle import Model
from flowcodec.runtime.integer import FRACTION_BITS
from flowcodec.runtime.trellis import FINE_STEP, NEAR, Trellis, load_tables, quantisers, search

_UNIT = float(1 << FRACTION_BITS)
_SPACING = 2 * FINE_STEP / _UNIT


class TrellisCells(Cells):
    """Points and costs by kind, scale index, quantiser and magnitude; coefficients in no trellis are those of ``Cells``."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._channel, self._free, self._own = Trellis(model.channels), model.channels.free, load_tables()
        tables, magnitudes = self._own.tables, np.arange(MAGNITUDES)
        near = np.minimum(magnitudes, NEAR)
        points = self._own.centroids[..., near] / _UNIT + (magnitudes - near) * _SPACING
        beyond = np.maximum(magnitudes - tables.reach[:, None], 0)
        costs = tables.costs[(tables.starts[:-1] + tables.reach)[:, None] + magnitudes - beyond] + 2 * np.log2(1 + beyond)
        costs = costs.reshape(points.shape)
        self._points, self._bits = (torch.from_numpy(x).float().flatten() for x in (points, costs))
        self._point_slopes, self._bit_slopes = (slopes_of(x).flatten() for x in (points, costs))

    def code(self, offset: Tensor, scale: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        received, bits = super().code(offset, scale, kind)
        with torch.no_grad():
            scales = scale.long().flatten().numpy()
            coded = np.flatnonzero(~self._free[kind][scales])
            inside, _ = self._channel.split(scales[coded])
            if len(inside) == 0:
                return received, bits
            place = coded[inside]
            ids = self._channel.first_ids(kind, scales[place])
            symbols = search(_UNIT * offset.flatten().numpy()[place], ids, self._own)
            magnitudes = np.abs(symbols)
            near = np.minimum(magnitudes, MAGNITUDES - 1)
            flat = torch.from_numpy((ids + quantisers(symbols)) * MAGNITUDES + near)
            sign = torch.from_numpy(np.sign(symbols)).float()
            far = torch.from_numpy((magnitudes - near) * _SPACING).float()
            index = (torch.from_numpy(place),)
        moved = (scale - scale.detach()).flatten()[index]
        points = (self._points[flat] + far + self._point_slopes[flat] * moved) * sign
        costs = self._bits[flat] + self._bit_slopes[flat] * moved
        return (
            received.flatten().index_put(index, points).view(received.shape),
            bits.flatten().index_put(index, costs).view(bits.shape),
        )
