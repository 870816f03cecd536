"""Cardiac function from the labels of a short-axis cine: volumes at both ends of the beat, ejection fraction, mass."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from l2gnet.data.inputs import patient_and_frame
from l2gnet.prediction.doubt import said_of_frames

MYOCARDIUM_G_PER_ML = 1.05  # density of heart muscle (Schulz-Menger et al. 2020, doi:10.1186/s12968-020-00610-6)
_STRUCTURES = {"left ventricle", "right ventricle", "myocardium"}
_LEAST_SHARE = 0.05  # of what a ventricle holds at the other end of the beat: no heart empties so far


@dataclass(frozen=True)
class Ventricle:
    """Volumes of one cavity, in ml: the largest of the beat (end-diastole, ED) and the smallest (end-systole, ES)."""

    ed_ml: float
    es_ml: float

    @property
    def stroke_ml(self) -> float:
        """What a beat ejects."""
        return self.ed_ml - self.es_ml

    @property
    def ejection_fraction(self) -> float:
        """The share of the end-diastolic volume that a beat ejects, in percent; 0 for an empty ventricle."""
        return 100 * self.stroke_ml / self.ed_ml if self.ed_ml else 0.0

    def as_dict(self) -> dict[str, float]:
        """Everything, for JSON."""
        return {
            "ed_ml": self.ed_ml,
            "es_ml": self.es_ml,
            "stroke_ml": self.stroke_ml,
            "ejection_fraction_percent": self.ejection_fraction,
        }


@dataclass(frozen=True)
class CardiacFunction:
    """What a cine of the heart is recorded for.

    ED and ES are the frames (counted from 1) with the most and the least blood in the left ventricle, for both
    ventricles; the mass is that of the left ventricle's muscle at ED. `doubts` are reasons to look before using it.
    """

    ed_frame: int
    es_frame: int
    left: Ventricle
    right: Ventricle
    mass_g: float
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line."""
        left, right = (
            f"{side.ed_ml:.0f} / {side.es_ml:.0f} ml (ED / ES), ejection fraction {side.ejection_fraction:.0f} %"
            for side in (self.left, self.right)
        )
        frames = f"ED is frame {self.ed_frame}, ES frame {self.es_frame}"
        return f"left ventricle {left}, mass {self.mass_g:.0f} g; right ventricle {right}; {frames}"

    def as_dict(self) -> dict[str, Any]:
        """Every number, for JSON."""
        return {
            "ed_frame": self.ed_frame,
            "es_frame": self.es_frame,
            "left_ventricle": self.left.as_dict() | {"mass_g": self.mass_g},
            "right_ventricle": self.right.as_dict(),
        }

    def in_words(self) -> dict[str, float]:
        """Everything, by names for people."""
        rows: dict[str, float] = {"end-diastole: frame": self.ed_frame, "end-systole: frame": self.es_frame}
        for name, side in (("left ventricle", self.left), ("right ventricle", self.right)):
            rows |= {
                f"{name}: end-diastolic volume (ml)": side.ed_ml,
                f"{name}: end-systolic volume (ml)": side.es_ml,
                f"{name}: stroke volume (ml)": side.stroke_ml,
                f"{name}: ejection fraction (%)": side.ejection_fraction,
            }
        return rows | {"left ventricle: mass of its muscle (g)": self.mass_g}


def cardiac_function(volumes_ml: Mapping[int, Mapping[str, float]]) -> CardiacFunction | None:
    """Function of the heart from the structures' volumes in each frame, by frame number.

    None where there is no beat to measure: other structures than the heart's, fewer than two frames, or no blood.
    """
    if len(volumes_ml) < 2 or any(volumes.keys() != _STRUCTURES for volumes in volumes_ml.values()):
        return None
    blood_ml = {frame: volumes["left ventricle"] for frame, volumes in volumes_ml.items()}
    ed, es = max(blood_ml, key=blood_ml.__getitem__), min(blood_ml, key=blood_ml.__getitem__)
    if blood_ml[ed] == 0:
        return None
    left, right = (
        Ventricle(volumes_ml[ed][name], volumes_ml[es][name]) for name in ("left ventricle", "right ventricle")
    )
    doubts = [
        f"{name} measures {ml:.1f} ml in frame {frame}, taken for {phase}: was it missed there?"
        for name, side in (("left ventricle", left), ("right ventricle", right))
        for ml, frame, phase in ((side.ed_ml, ed, "end-diastole"), (side.es_ml, es, "end-systole"))
        if ml < _LEAST_SHARE * max(side.ed_ml, side.es_ml)
    ]
    mass_g = MYOCARDIUM_G_PER_ML * volumes_ml[ed]["myocardium"]
    return CardiacFunction(ed, es, left, right, mass_g, tuple(doubts))


def function_by_patient(
    volumes_ml: Mapping[str, Sequence[Mapping[str, float]]],
    doubts: Mapping[str, Sequence[str]],
    failed: Sequence[str],
) -> dict[str, CardiacFunction]:
    """Cardiac function of patients whose frames are scans of their own, with the doubts of these, by scan name.

    Scans that `failed` are a doubt, too: the beat may end in them.
    """
    names: dict[str, dict[int, str]] = defaultdict(dict)
    for name in (*volumes_ml, *failed):
        if of := patient_and_frame(name):
            patient, frame = of
            names[patient][frame] = name
    functions = {}
    for patient, frames in names.items():
        done = {frame: name for frame, name in frames.items() if len(volumes_ml.get(name, ())) == 1}
        if function := cardiac_function({frame: volumes_ml[name][0] for frame, name in done.items()}):
            said = said_of_frames({frame: doubts[name] for frame, name in done.items()})
            lost = [f"frame {frame} could not be segmented" for frame in sorted(frames) if frames[frame] in failed]
            functions[patient] = replace(function, doubts=(*said, *function.doubts, *lost))
    return functions
