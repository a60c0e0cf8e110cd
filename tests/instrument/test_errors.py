"""What users are told of files that cannot be written."""

import errno
import os

import pytest
from _processes import small_files

from implreg.errors import explain_os_error, write_whole, writing


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "the disk is full, _build could not be written; free some space and try"),
        (errno.EDQUOT, "the disk quota is used up, _build could not be written; free some space"),
        (errno.EROFS, "_build could not be written (Read-only file system); choose another"),
        (errno.EACCES, "_build could not be written (Permission denied); choose another folder."),
    ],
)
def test_a_disk_that_takes_nothing_is_named(number, told):
    error = OSError(number, os.strerror(number))
    assert explain_os_error(error, "_build").startswith(told)
    assert explain_os_error(error).startswith(told.replace("_build", "a file"))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "the store"),
        (("store/.0123.part",), "the store"),
        (("store/.0123.part", None, "store/key"), "store/key"),
        (("other",), "other"),
        (("book/page.md", None, "stage/page.md"), "stage/page.md"),
    ],
)
def test_an_error_names_where_it_was_to_be_written(names, told):
    with pytest.raises(PermissionError) as caught, writing("the store"):
        raise OSError(errno.EACCES, "Permission denied", *names)
    assert explain_os_error(caught.value, "elsewhere").startswith(f"{told} could not be written")


def test_an_error_without_a_number_is_left_as_it_is():
    with pytest.raises(OSError, match=r"^gone$") as caught, writing("the store"):
        raise OSError("gone")
    assert caught.value.filename is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "file"
    write_whole(file, b"before")
    with pytest.raises(OSError) as caught, small_files():
        write_whole(file, bytes(10**5))
    assert caught.value.filename == str(file) and caught.value.errno == errno.EFBIG
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]
    write_whole(file, memoryview(b"after"))
    assert file.read_bytes() == b"after"
