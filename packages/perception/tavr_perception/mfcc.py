"""Mel-frequency cepstral coefficients with the definition and defaults of python_speech_features, in numpy.

25 ms windows every 10 ms, no window function, 512-point FFT, 26 mel filters, pre-emphasis 0.97, 13 coefficients with
sinusoidal lifter 22, the first replaced by the log energy: what the published SyncNet was trained on.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

WINDOW_SECONDS, STEP_SECONDS = 0.025, 0.010
FFT_SIZE, FILTERS, COEFFICIENTS = 512, 26, 13
PRE_EMPHASIS, LIFTER = 0.97, 22
EPSILON = float(np.finfo(float).eps)

Matrix = NDArray[np.float64]


def mel_filters(sample_rate: int) -> Matrix:
    """Triangular filters [FILTERS, FFT_SIZE // 2 + 1], evenly spaced in mel from 0 Hz to half the sample rate."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1)
    edges = np.floor((FFT_SIZE + 1) * hertz / sample_rate).astype(int)
    bins = np.arange(FFT_SIZE // 2 + 1)
    filters = np.zeros((FILTERS, len(bins)))
    for row, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising, falling = (bins >= low) & (bins < middle), (bins >= middle) & (bins < high)
        filters[row, rising] = (bins[rising] - low) / (middle - low)
        filters[row, falling] = (high - bins[falling]) / (high - middle)
    return filters


def windows(signal: Matrix, sample_rate: int) -> Matrix:
    """Overlapping windows [n, window samples]; the last is filled with zeros."""
    length, step = round(WINDOW_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    count = 1 if len(signal) <= length else 1 + int(np.ceil((len(signal) - length) / step))
    padded = np.zeros((count - 1) * step + length)
    padded[: len(signal)] = signal[: len(padded)]
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::step]


def mfcc(samples: NDArray[np.int16], sample_rate: int) -> Matrix:
    """Coefficients [n, 13], n = one every 10 ms, of 16-bit samples (the scale matters: the energy is in it)."""
    signal = samples.astype(np.float64)
    signal = np.append(signal[:1], signal[1:] - PRE_EMPHASIS * signal[:-1])
    power = np.abs(np.fft.rfft(windows(signal, sample_rate), FFT_SIZE)) ** 2 / FFT_SIZE
    energy = power.sum(axis=1)
    energy[energy == 0] = EPSILON
    bands = power @ mel_filters(sample_rate).T
    bands[bands == 0] = EPSILON
    cepstra: Matrix = dct(np.log(bands), type=2, axis=1, norm="ortho")  # pyright: ignore[reportAssignmentType]
    lifted = cepstra[:, :COEFFICIENTS] * (1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER))
    lifted[:, 0] = np.log(energy)
    return lifted
