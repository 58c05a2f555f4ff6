"""What the air and a cheap receiver do to samples. Independent of the package: nothing of it is imported."""

import numpy as np


def impair(samples: np.ndarray, rng: np.random.Generator, snr_db: float, offset: float, symbol_samples: int = 4) -> np.ndarray:
    """Delay (whole and fractional), carrier offset (share of the symbol rate), phase, phase noise, gain, white noise.

    The CSNR is energy of a symbol over noise density: the noise of a sample is the signal's mean power in the frame times the
    samples a symbol has, over the CSNR.
    """
    active = np.abs(samples) > 0
    power = np.mean(np.abs(samples[active]) ** 2)
    delayed = np.concatenate([np.zeros(rng.integers(0, 5000)), samples, np.zeros(rng.integers(100, 3000))])
    frequencies = np.fft.fftfreq(len(delayed))
    delayed = np.fft.ifft(np.fft.fft(delayed) * np.exp(-2j * np.pi * frequencies * rng.random()))
    phase = 2 * np.pi * (rng.random() + offset / symbol_samples * np.arange(len(delayed)))
    phase += np.cumsum(rng.standard_normal(len(delayed))) * 1e-4
    noise = rng.standard_normal(len(delayed)) + 1j * rng.standard_normal(len(delayed))
    noise *= np.sqrt(power * symbol_samples / 10 ** (snr_db / 10) / 2)
    return (rng.uniform(0.01, 3) * (delayed * np.exp(1j * phase) + noise)).astype(np.complex64)
