"""One thread a test run: the networks are tiny, and threads that wait for busy cores make them many times slower."""

import torch

torch.set_num_threads(1)
