import itertools

import numpy as np
import pytest
from l2gnet.widgets.planes import planes_of

OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))
ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(("LR", "AP", "SI")) for codes in itertools.product(*axes)
]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_picture_is_turned_as_its_letters_say(orientation):
    shape = (3, 4, 5)
    index = np.moveaxis(np.indices(shape), 0, -1)
    for plane in planes_of(orientation):
        top, bottom, left, right = plane.letters
        assert top in "SA"
        assert left in "RA"
        assert (OPPOSITE[top], OPPOSITE[left]) == (bottom, right)
        place = [plane.slice(index[..., axis], 1) for axis in range(3)]
        assert (place[plane.axis] == 1).all()
        for letter, step in ((bottom, place[plane.down][1, 0] - place[plane.down][0, 0]),):
            assert step == (1 if orientation[plane.down] == letter else -1)
        assert place[plane.across][0, 1] - place[plane.across][0, 0] == (
            1 if orientation[plane.across] == right else -1
        )
    assert {plane.name for plane in planes_of(orientation)} == {"axial", "coronal", "sagittal"}


def test_nothing_is_said_where_nothing_is_known():
    unknown, known = planes_of(None), planes_of("SPL")
    assert [plane.letters for plane in unknown] == [("", "", "", "")] * 3
    assert [(p.down, p.across, p.flip_down) for p in unknown] == [(p.down, p.across, p.flip_down) for p in known]
