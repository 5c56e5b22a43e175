"""A drafted engine beside torch on the held-out tiles of the run, fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.agreement.torch_parity import TilePair, torch_parity
from microseg.core.schemas.fidelity import FoldParity
from microseg.export.onnx_graph import fold_logits
from microseg.runtime import open_engine
from microseg.runtime.onnxruntime_library import onnxruntime_library


class TorchComparison:
    """The probabilities of torch on some tiles, computed once, and the comparison of engines with them."""

    def __init__(
        self,
        tiles: Sequence[NDArray[np.uint8]],
        torch: Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]],
        phases: Sequence[str],
    ) -> None:
        """Compute the probabilities of torch.

        Args:
            tiles: each uint8 (1, 1, H, W).
            torch: gives the probability of each fold on a tile, each float32 (1, P, H, W).
            phases: names of the phases, by index.
        """
        self._tiles, self._phases = tiles, phases
        self._wanted = [torch(pixels) for pixels in tiles]

    def measure(self, engine_path: Path) -> list[FoldParity]:
        """Compare an ONNX engine with torch; pooled over the tiles, for the bag (fold -1) and each fold."""
        # A GPU may be present where torch is. Every station can compute what ONNX Runtime computes on the CPU.
        engine = open_engine(engine_path, device="cpu", runtime="onnxruntime")
        run_folds = _folds_runner(engine_path, is_of_two=len(self._phases) == 2)
        pairs = []
        for pixels, theirs in zip(self._tiles, self._wanted, strict=True):
            out = engine.run(pixels, probability=True)
            assert out.probability is not None
            pairs.append(TilePair(theirs, out.labels[0], out.votes[0], out.probability[0], run_folds(pixels)))
        return torch_parity(pairs, self._phases)


def _folds_runner(engine_path: Path, *, is_of_two: bool) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The folds' probabilities, float32 (F, P, H, W), of one tile: the same graph with its inner logits as outputs."""
    from scipy.special import expit, softmax

    model = onnx.load(engine_path)
    names = fold_logits(model)
    known = {output.name for output in model.graph.output}
    for name in dict.fromkeys(names):
        assert name not in known
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime_library().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = [logits[0, 0] for logits in session.run(names, {"tiles": pixels})]
        if is_of_two:
            second = expit(np.concatenate(found))
            return np.stack([1 - second, second], 1)
        return np.stack([softmax(logits, axis=0) for logits in found])

    return run
