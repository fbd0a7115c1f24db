"""Make the voiced cases of the `silero-vad*` models; run by hand, the results are committed.

    apt-get install espeak-ng
    python models/silero-vad/make_case.py

On noise and on silence the network says 0.00 and so does nearly every broken copy of it. Here
`espeak-ng` reads a sentence aloud, and the 20 consecutive frames are kept on which the speech
probability, started with an empty state, moves from below 0.1 to above 0.9 and has the most
values between. The committed files were made with espeak-ng 1.51, scipy 1.17 and torch 2.13.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import adapter  # noqa: E402 (it lies beside this file)

STEPS = 20
FRAMES_PER_BLOCK = 3
LOW, HIGH = 0.1, 0.9
SENTENCE = (
    "One moment, please. The gate is open; seven ships wait in the harbour, and the wind is fair."
)
#: Language and words per minute; the mono voices of espeak-ng, `+f3` and `+m3` are its variants.
VOICES = (("de", 150), ("en-us+f3", 150), ("en-us+m3", 140))
#: Standard deviation of the added noise: -60 dB of full scale, as a quiet room has it.
NOISE = 1e-3
PCM_STEP = 1 / 32768

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A sampling rate and how the network for it takes its frames."""

    hz: int
    samples: int
    context: int


WIDE = Rate(hz=16000, samples=512, context=64)
NARROW = Rate(hz=8000, samples=256, context=32)


def main() -> None:
    """Write all cases and print the span of the probability on each."""
    wide, narrow = (adapter.Network(network) for network in adapter.networks())
    spoken = [frames(speech(voice, speed, WIDE), WIDE) for voice, speed in VOICES]
    windows = [liveliest(wide, voice) for voice in spoken]
    save("voiced", windows[0][:, None])
    save("voices3", np.stack(windows, axis=1))
    blocks = liveliest(wide, spoken[0], count=STEPS * FRAMES_PER_BLOCK)
    save("blocks", blocks.reshape(STEPS, FRAMES_PER_BLOCK, -1))
    slow = liveliest(narrow, frames(speech(*VOICES[0], NARROW), NARROW))
    save("voiced-8k", slow[:, None])


def speech(voice: str, words_per_minute: int, rate: Rate) -> Samples:
    """Return the spoken sentence in [-1, 1), quantised to 16 bits as a sound card does."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "speech.wav")
        speed = str(words_per_minute)
        command = ["espeak-ng", "-v", voice, "-s", speed, "-w", str(file), SENTENCE]
        subprocess.run(command, check=True)
        hz, recorded = wavfile.read(file)
    common = np.gcd(hz, rate.hz)
    sound = resample_poly(recorded * PCM_STEP, rate.hz // common, hz // common)
    sound += NOISE * np.random.default_rng(0).standard_normal(sound.size)
    return np.asarray(np.round(sound / PCM_STEP) * PCM_STEP, dtype=np.float32)


def frames(sound: Samples, rate: Rate) -> Samples:
    """Return the frames, [frames, context + samples]; each begins with the end of the one before.

    The first frame begins with zeros, as in the authors' own loop.
    """
    padded = np.concatenate([np.zeros(rate.context, np.float32), sound])
    windows = np.lib.stride_tricks.sliding_window_view(padded, rate.context + rate.samples)
    return windows[:: rate.samples]


def liveliest(network: adapter.Network, spoken: Samples, count: int = STEPS) -> Samples:
    """Return the `count` consecutive frames with the most probabilities between low and high."""
    starts = range(len(spoken) - count + 1)
    start = max(starts, key=lambda start: liveliness(network, spoken[start : start + count]))
    chosen = spoken[start : start + count]
    values = probabilities(network, chosen)
    if not (values.min() < LOW and values.max() > HIGH):
        msg = f"the probability spans only {values.min():.3f} to {values.max():.3f}"
        raise ValueError(msg)
    sys.stdout.write(f"frames {start} to {start + count - 1}: {np.round(values, 3).tolist()}\n")
    return chosen


def liveliness(network: adapter.Network, window: Samples) -> tuple[bool, int]:
    """Return whether the probability spans low to high, and how many values lie between."""
    values = probabilities(network, window)
    between = (values > LOW) & (values < HIGH)
    return bool(values.min() < LOW and values.max() > HIGH), int(between.sum())


@torch.inference_mode()
def probabilities(network: adapter.Network, window: Samples) -> NDArray[np.float64]:
    """Return the probability of every frame, started with an empty state."""
    state = torch.zeros(2, 1, 128)
    values = []
    for frame in window:
        output, state = network(torch.from_numpy(frame.copy())[None], state)
        values.append(float(output))
    return np.array(values)


def save(name: str, steps: Samples) -> None:
    """Write one case: the input `input` with its leading axis of steps."""
    np.savez_compressed(FOLDER / "cases" / f"{name}.npz", input=steps)


if __name__ == "__main__":
    main()
