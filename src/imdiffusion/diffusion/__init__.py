"""The generative part, in torch: schedule, noise, samplers, loss, imputer, denoisers.

Knows windows as tensors (B, L, K), and nothing of frames, labels or thresholds.
"""
