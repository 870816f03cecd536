import pytest

from l2gnet.data.folders.check import check
from l2gnet.errors import VolumeError


def test_a_folder_of_no_known_kind_is_refused_with_what_it_holds(tmp_path):
    with pytest.raises(VolumeError, match=r"nowhere: the data must be a folder; found none; check the path\."):
        check(tmp_path / "nowhere")
    with pytest.raises(VolumeError, match=r"must hold a dataset\.json beside .*; found nothing"):
        check(tmp_path)
    for name in ("scan.dcm", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(VolumeError, match=r"found notes\.txt, scan\.dcm; name the folder in which these lie"):
        check(tmp_path)
