import unicodedata
from urllib.parse import quote

import pytest

from training.images.references import Library, Unresolved


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "images"
    for name in ("name.jpg", "photos/a b.jpg", "photos/deep/c.jpg", "0a1b2c3d-up.jpg", "kept.jpg", "한글 컵.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "way_out.jpg").symlink_to(tmp_path / "secret.jpg")
    return root


@pytest.mark.parametrize(
    ("reference", "file"),
    [
        ("name.jpg", "name.jpg"),
        ("/data/upload/1/0a1b2c3d-up.jpg", "0a1b2c3d-up.jpg"),
        ("/data/upload/12/9f8e7d6c-kept.jpg", "kept.jpg"),
        ("/data/local-files/?d=photos/a%20b.jpg", "photos/a b.jpg"),
        ("/data/local-files/?d=mnt%2Fphotos%2Fdeep%2Fc.jpg", "photos/deep/c.jpg"),
        ("http://localhost:8080/data/local-files/?d=photos/deep/c.jpg", "photos/deep/c.jpg"),
        ("s3://bucket/2026/photos/a b.jpg", "photos/a b.jpg"),
        ("s3://bucket/elsewhere/c.jpg", "photos/deep/c.jpg"),
        ("https://host/x/name.jpg?X-Amz-Signature=abc", "name.jpg"),
        ("https://host/%ED%95%9C%EA%B8%80%20%EC%BB%B5.jpg", "한글 컵.jpg"),
        ("photos\\deep\\c.jpg", "photos/deep/c.jpg"),
        ("/data/upload/1/a%20b.jpg", "photos/a b.jpg"),
    ],
)
def test_leads_to_the_file(root, reference, file):
    assert Library(root).find(reference) == root / file


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "form",
    [
        "{name}",
        "컵/{name}",
        "/data/upload/1/ab12cd34-{name}",
        "/data/upload/1/ab12cd34-{quoted}",
        "/data/local-files/?d={folder}%2F{quoted}",
        "s3://bucket/컵/{name}",
        "https://host/{folder}/{quoted}?X-Amz-Signature=abc",
    ],
)
def test_composed_or_not(tmp_path, form, stored, written):
    file = tmp_path / unicodedata.normalize(stored, "컵") / unicodedata.normalize(stored, "드럼 café.jpg")
    file.parent.mkdir()
    file.touch()
    name, folder = (unicodedata.normalize(written, text) for text in ("드럼 café.jpg", "컵"))
    reference = form.replace("컵", folder).format(name=name, quoted=quote(name), folder=quote(folder))
    assert Library(tmp_path).find(reference) == file


@pytest.mark.parametrize(
    "reference",
    [
        "../secret.jpg",
        "photos/../../secret.jpg",
        "/data/local-files/?d=../secret.jpg",
        "/data/local-files/?d=%2e%2e%2fsecret.jpg",
        "%2e%2e/secret.jpg",
        "s3://bucket/../secret.jpg",
        "..\\secret.jpg",
        "way_out.jpg",
        "name.jpg\0.png",
    ],
)
def test_never_leads_out_of_the_folder(root, reference):
    with pytest.raises(Unresolved, match="unsafe path"):
        Library(root).find(reference)


def test_an_absolute_path_is_looked_for_inside(root, tmp_path):
    with pytest.raises(Unresolved, match="no such file"):
        Library(root).find(str(tmp_path / "secret.jpg"))
    assert Library(root).find("/home/someone/photos/deep/c.jpg") == root / "photos" / "deep" / "c.jpg"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", "holds the picture itself"),
        ("", "names no file"),
        ("x" * 5000 + "/y.jpg", "no such file"),
        ("http://[broken/x.jpg", "no reference"),
    ],
)
def test_what_is_no_reference_is_told(root, reference, said):
    with pytest.raises(Unresolved, match=said):
        Library(root).find(reference)
