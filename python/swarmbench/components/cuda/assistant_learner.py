"""A lane's copy of the assistant's classifier on a device, and the feedback that it remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.components import intents
from swarmbench.gpu.device import Buffer, Device, Stream

_FILE = "assistant.cu"
_ROW = intents.LANES
_STATE_WORDS = 4


class Learner:
    """Weights that start as the served ones and are never served, so what is parsed does not
    depend on who learned what before; a ring of feedback of fixed size."""

    #: The host's memory of one.
    HOST_BYTES = 8 * _STATE_WORDS

    def __init__(self, device: Device, stream: Stream, served: Buffer, feedback_max: int) -> None:
        self._stream, self._feedback_max = stream, feedback_max
        self._kernels = {name: device.kernel(_FILE, name) for name in ("learn", "rows")}
        self.weights = device.empty(served.count, np.int16)
        self._received = device.empty(1, np.uint64)
        self._store = device.empty(2 * feedback_max, np.uint64)
        self._before = device.empty(intents.FEATURES_MAX * _ROW, np.int16)
        self._now = device.empty(intents.FEATURES_MAX * _ROW, np.int16)
        self._features = device.empty(intents.FEATURES_MAX, np.uint16)
        self.answer = device.pinned(_STATE_WORDS, np.uint64)
        self._view = device.mapped(self.answer)
        self._taken = 0
        self.forget(served)

    @staticmethod
    def nbytes(feedback_max: int) -> int:
        """Device memory of one copy."""
        rows = intents.BUCKETS + 2 * intents.FEATURES_MAX
        return 2 * _ROW * rows + 2 * intents.FEATURES_MAX + 8 + 16 * feedback_max

    @staticmethod
    def kept_bytes(features: int) -> int:
        """What a step writes beside the rows: those before it, what they are of, the feedback."""
        return features * (2 * _ROW + 2) + 16 + 8 + 8 * _STATE_WORDS

    def forget(self, served: Buffer) -> None:
        """Starts anew from the served weights."""
        self._taken = 0
        self._stream.copy(self.weights, served)
        self._stream.fill(self._store, 0xFF)
        self._stream.fill(self._received, 0)
        self._stream.synchronize()

    def learn(
        self, texts: Buffer, truths: Buffer, grammar: Buffer, keys: Buffer, pool: int
    ) -> None:
        """Enqueues the step on the text that the key picks from a pool, or on text 0."""
        self._taken += 1
        buffers = [texts, truths, self.weights, grammar, keys]
        scratch = [self._before, self._features, self._view]
        self._stream.launch(
            self._kernels["learn"],
            1,
            32,
            [
                *buffers,
                np.uint32(1),
                np.uint32(pool),
                self._received,
                self._store,
                np.uint32(self._feedback_max),
                *scratch,
            ],
        )

    def downloaded(self) -> intents.Weights:
        """The weights, shape (`BUCKETS`, `LANES`)."""
        weights = self._taken_back(self.weights)
        return weights.reshape(intents.BUCKETS, _ROW)

    def is_right(self, key: int) -> bool:
        """Whether the last step changed what it had to and by how much, and feedback is conserved:
        as much taken in as there were operations, the last one remembered."""
        count, label = int(self.answer[3]), int(self.answer[2]) & 0xFF
        features = self._taken_back(self._features.part(0, count)).astype(np.int64)
        before = self._taken_back(self._before.part(0, count * _ROW)).reshape(-1, _ROW)
        self._stream.launch(
            self._kernels["rows"],
            -(-count * 4 // 128),
            128,
            [self.weights, self._features, np.uint32(count), self._now],
        )
        now = self._taken_back(self._now.part(0, count * _ROW)).reshape(-1, _ROW)
        received = int(self._taken_back(self._received)[0])
        place = 2 * ((received - 1) % self._feedback_max)
        last = self._taken_back(self._store.part(place, 2))

        kept, rows = np.unique(features, return_index=True)
        right = np.zeros((intents.BUCKETS, _ROW), np.int16)
        right[kept] = before[rows]
        scores = intents.step(right, features, label, intents.FEEDBACK_STEP)
        remembered = [key, label | intents.decided(scores) << 8]
        is_right = (
            received == int(self.answer[0]) == self._taken
            and last.tolist() == remembered
            and np.array_equal(now, right[features])
        )
        if not is_right:
            # What was found wrong once is not found again with every operation after it.
            self._taken = received
        return is_right

    def damage(self, fault: str) -> bool:
        """Damages a weight that the last step touched, or what was remembered."""
        received = self._taken_back(self._received)
        match fault:
            case "flipped_bit":
                feature = int(self._taken_back(self._features.part(0, 1))[0])
                row = self.weights.part(feature * _ROW, 1)
                self._stream.upload(row, self._taken_back(row) ^ 1)
            case "lost_result":
                self._stream.upload(self._received, received - 1)
            case _:
                count = int(received[0])
                last = self._store.part(2 * ((count - 1) % self._feedback_max), 2)
                again = self._store.part(2 * (count % self._feedback_max), 2)
                self._stream.upload(again, self._taken_back(last))
                self._stream.upload(self._received, received + 1)
        self._stream.synchronize()
        return True

    def _taken_back(self, source: Buffer) -> npt.NDArray[Any]:
        array = np.empty(source.count, source.dtype)
        self._stream.download(array, source)
        self._stream.synchronize()
        return array
