"""The parts that a scan is cut into."""

from shard_tools.scan.parts import cut_into_parts
from shard_tools.scan.sources import File


def test_a_new_file_changes_one_part_of_a_scan() -> None:
    for size in (1_000, 1 << 27):
        files = [File(f"{i:05d}.wav", "", size, "", None, None) for i in range(2000)]
        before = {part.name for part in cut_into_parts(files, "speech")}
        for place in (0, 777, 2000):
            new = File(f"{place:05d}a.wav", "", size, "", None, None)
            after = {part.name for part in cut_into_parts(sorted([*files, new]), "speech")}
            assert len(after - before) <= 2  # the part that it is in may be cut there
        assert 10 < len(before) < (100 if size == 1_000 else 2_000)
    new_files = [file._replace(stamp="later") if i == 50 else file for i, file in enumerate(files)]
    assert len({part.name for part in cut_into_parts(new_files, "speech")} - before) == 1
    assert max(len(part.files) for part in cut_into_parts(files, "speech")) < 30
