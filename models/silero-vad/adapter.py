"""The authors' TorchScript of Silero VAD, behind the interfaces of their ONNX files.

The archive holds two networks, one for 16 kHz and one for 8 kHz. Its own `forward(audio, rate)`
keeps the recurrent state and the last samples of the frame before (the context) hidden inside;
the networks below it take both openly: a frame that begins with its context, and a state of
shape [2, batch, 128] (hidden state, cell state). The ONNX files do the same, so the modules here
call the networks and leave the outer shell out. `silero_vad` itself is never imported: the
archive is found through the installed distribution's list of files, and nothing needs torchaudio.

The `reference.py` of every `silero-vad*` folder builds on this file.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch

DISTRIBUTION = "silero-vad"
ARCHIVE = "silero_vad/data/silero_vad.jit"


class Network(torch.nn.Module):
    """One network with its state in the open: (input, state) to (output, stateN)."""

    def __init__(self, network: torch.nn.Module) -> None:
        """Wrap one of the archive's two networks."""
        super().__init__()
        self.network = network

    def forward(
        self, frames: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the speech probability, [batch, 1], and the next state, [2, batch, 128].

        Args:
            frames: Context and samples of each voice, [batch, samples], samples in [-1, 1].
            state: Hidden and cell state, [2, batch, 128].
        """
        output, state_next = self.network(frames, state)
        return output, state_next


class Rated(torch.nn.Module):
    """The network with a sampling rate beside it: (input, state, sr) to (output, stateN)."""

    def __init__(self, network: torch.nn.Module, *, hz: int) -> None:
        """Wrap the network that the archive keeps for `hz`."""
        super().__init__()
        self.network = Network(network)
        self.hz = hz

    def forward(
        self, frames: torch.Tensor, state: torch.Tensor, sr: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `Network.forward` returns.

        Args:
            frames: As in `Network.forward`.
            state: As in `Network.forward`.
            sr: Sampling rate in Hz, a scalar.

        Raises:
            ValueError: If another network would be the right one.
        """
        if int(sr) != self.hz:
            msg = f"this is the network for {self.hz} Hz, 'sr' is {int(sr)}"
            raise ValueError(msg)
        output, state_next = self.network(frames, state)
        return output, state_next


class RateFirst(torch.nn.Module):
    """The same with the inputs in another order: (input, sr, state) to (output, stateN)."""

    def __init__(self, network: torch.nn.Module, *, hz: int) -> None:
        """Wrap the network that the archive keeps for `hz`."""
        super().__init__()
        self.rated = Rated(network, hz=hz)

    def forward(
        self, frames: torch.Tensor, sr: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `Rated.forward` returns."""
        output, state_next = self.rated(frames, state, sr)
        return output, state_next


class Sequence(torch.nn.Module):
    """Several consecutive frames of one voice in one call: (input, h, c) to (probs, hn, cn)."""

    def __init__(self, network: torch.nn.Module) -> None:
        """Wrap one of the archive's two networks."""
        super().__init__()
        self.network = Network(network)

    def forward(
        self, frames: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the probabilities, [frames], and the state after the last frame.

        Args:
            frames: Frames in the order of time, [frames, samples].
            hidden: Hidden state before the first frame, [1, 1, 128].
            cell: Cell state before the first frame, [1, 1, 128].
        """
        state = torch.cat([hidden, cell])
        probabilities = []
        for step in range(len(frames)):
            output, state = self.network(frames[step : step + 1], state)
            probabilities.append(output.reshape(1))
        return torch.cat(probabilities), state[:1], state[1:]


def installed(path: str) -> Path:
    """Return where the file `path` of the installed distribution lies."""
    for file in metadata.files(DISTRIBUTION) or ():
        if file.as_posix() == path:
            return Path(str(file.locate()))
    msg = f"'{path}' is not among the files of the installed distribution '{DISTRIBUTION}'"
    raise FileNotFoundError(msg)


def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return the archive's networks for 16 kHz and for 8 kHz."""
    archive = torch.jit.load(str(installed(ARCHIVE)), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    return archive._model, archive._model_8k  # noqa: SLF001 (the archive's own names)


def take_parameters(network: torch.nn.Module, onnx_file: str, *, prefix: str = "") -> None:
    """Overwrite all parameters of `network` with the tensors of the same names in an ONNX file.

    Two of the authors' ONNX files hold weights that the archive does not have. Their graphs can
    still be compared with the authors' network, fed the same weights: that finds a wrong graph,
    a wrong operator and a wrong runtime, and it cannot find a wrong weight.

    Args:
        network: One of the archive's networks; changed in place.
        onnx_file: Path of the ONNX file inside the distribution.
        prefix: What stands before the network's own parameter names in the ONNX file.
    """
    import onnx  # only two of the models need it
    from onnx import numpy_helper

    tensors = {
        tensor.name.removeprefix(prefix): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(installed(onnx_file)).graph.initializer
        if tensor.name.startswith(prefix)
    }
    wanted = network.state_dict().keys()
    network.load_state_dict({name: tensors[name] for name in wanted}, strict=True)
