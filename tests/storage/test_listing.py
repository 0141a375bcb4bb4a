"""What lies below a folder."""

from pathlib import Path

from timbre.storage import files as storage


def test_find_lists_every_file_below_in_order(folder_url: str) -> None:
    for name in ["b/2", "a", "b/1"]:
        storage.publish(storage.join(folder_url, *name.split("/")), b"x")
    listing = storage.find_below(folder_url)
    assert list(listing) == ["a", "b/1", "b/2"]
    assert all(storage.read(url) == b"x" for url in listing.values())


def test_files_are_found_with_size_and_a_stamp_that_changes_with_the_content(
    folder_url: str,
) -> None:
    for name, data in [("b/2", b"22"), ("a", b""), ("b/c/1", b"1")]:
        storage.publish(storage.join(folder_url, *name.split("/")), data)
    before = storage.find_files(folder_url)
    assert [(file.path, file.bytes) for file in before] == [("a", 0), ("b/2", 2), ("b/c/1", 1)]
    assert storage.find_files(folder_url) == before
    assert storage.find_files(storage.join(folder_url, "b"))[0] == before[1]._replace(path="2")
    storage.publish(storage.join(folder_url, "b", "2"), b"44")
    after = storage.find_files(folder_url)
    assert after[1].stamp != before[1].stamp
    assert after[::2] == before[::2]
    assert storage.find_files(storage.join(folder_url, "none")) == []


def test_links_are_listed_as_the_files_they_lead_to(tmp_path: Path) -> None:
    storage.publish(tmp_path / "real" / "a", b"123")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "real" / "a")
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    (folder / "itself").symlink_to(folder)
    files = {file.path: file for file in storage.find_files(folder)}
    assert set(files) == {"link", "nowhere"}
    assert files["link"] == storage.find_files(tmp_path / "real")[0]._replace(path="link")
    assert set(storage.find_below(folder)) == {"link", "nowhere"}
