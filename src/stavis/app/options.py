"""Form fields of a prediction request, named like the flags of `stavis predict`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stavis.prediction.outputs import choose_outputs


class PredictForm(BaseModel):
    """The options of a job. Names are those of the command's flags, without the leading dashes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-")
    )

    outputs: str = Field("npz,video,overlay", max_length=100, description="As `stavis predict --outputs`.")
    without_sound: bool = Field(False, description="Predict a second time as if there were no audio.")
    map_size: Literal["video", "network"] = "video"
    map_bits: Literal["8", "16"] = "8"
    map_values: Literal["stretched", "probability"] = "stretched"
    color_bar: bool = True
    contour: float = Field(0.0, ge=0, lt=1)
    peak: bool = False
    stride: int = Field(1, ge=1, le=1000)
    edges: Literal["repeat", "reference"] = "repeat"
    quirks: Literal["fixed", "reference"] = "fixed"
    start: float | None = Field(None, ge=0, allow_inf_nan=False, description="Seconds.")
    end: float | None = Field(None, gt=0, allow_inf_nan=False, description="Seconds.")
    audio_stream: int | None = Field(None, ge=0)
    silent: bool = False
    engine: Literal["auto", "plain", "torch", "openvino"] = "auto"
    precision: Literal["float32", "bf16", "fp16", "int8"] = "float32"
    batch_size: int | None = Field(None, ge=1, le=64)


def parse_form(fields: dict[str, str]) -> PredictForm:
    """Checks the fields of a request. The ValueError for a wrong one names it, what was found and what is allowed."""
    try:
        form = PredictForm.model_validate({name: value for name, value in fields.items() if value != ""})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(str(one.alias) for one in PredictForm.model_fields.values())
            raise ValueError(f"unknown field {name[:40]!r}; allowed: {allowed}") from None
        raise ValueError(f"{name} is {str(first['input'])[:40]!r}: {first['msg']}") from None
    choose_outputs(form.outputs)
    if form.start is not None and form.end is not None and form.end <= form.start:
        raise ValueError(f"end {form.end:g} is not after start {form.start:g}")
    return form
