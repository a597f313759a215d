"""The other ceiling: a bare loop of ``session.run`` on full batches that lie in memory.

Prints rows per second.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> None:
    """Read the command line, warm up, and run for so many seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        given.model.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    rows = np.random.default_rng(0).random((given.rows, 784), dtype=np.float32)
    for _ in range(3):
        session.run(["y"], {"x": rows})
    started = time.perf_counter()
    runs = 0
    while time.perf_counter() < started + given.seconds:
        session.run(["y"], {"x": rows})
        runs += 1
    print(runs * given.rows / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
