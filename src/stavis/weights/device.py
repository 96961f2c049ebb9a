"""Device choice."""

import torch

from stavis.errors import StavisError


def resolve_device(device: str | torch.device) -> torch.device:
    """Returns the device with a name: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".

    Raises StavisError if the name is unknown or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    match found.type:
        case "cpu":
            pass
        case "cuda":
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if (found.index or 0) >= count:
                there = f"{count}, cuda:0 to cuda:{count - 1}" if count else "no GPU that PyTorch can use"
                raise StavisError(f"device {str(device)!r}: this machine has {there}")
        case "mps":
            if not torch.backends.mps.is_available():
                raise StavisError("device 'mps': this machine has no Apple GPU that PyTorch can use")
        case _:
            raise StavisError(f"device {str(device)!r} is not known; allowed: auto, cpu, cuda, cuda:N, mps")
    return found


def choose_device(device: str, local_rank: int) -> torch.device:
    """Like `resolve_device`, but with "auto" and "cuda" process `local_rank` of this machine gets a GPU of its own."""
    chosen = resolve_device(device)
    own = chosen.type == "cuda" and chosen.index is None
    return resolve_device(f"cuda:{local_rank}") if own else chosen
