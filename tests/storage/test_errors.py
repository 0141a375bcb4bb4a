"""What the error of a store means."""

import pytest

from timbre.storage import errors as store_errors


class HttpError(Exception):
    """An error like gcsfs's, with a code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused, {code}")
        self.code = code


@pytest.mark.parametrize(
    "error",
    [
        OSError("Forbidden: https://storage.googleapis.com/b/o\nno storage.objects.get access"),
        OSError("Unauthorized: b/o"),
        ValueError("Bad Request: b/o\nRequest had invalid authentication credentials."),
        HttpError(401),
        HttpError(403),
    ],
    ids=["Forbidden", "Unauthorized", "invalid", "401", "403"],
)
def test_a_refusal_by_google_is_told_at_once(error: Exception) -> None:
    assert store_errors.is_failure(error, remote=True)
    final = store_errors.permanent("gs://b/o", error, remote=True)
    assert isinstance(final, PermissionError)
    assert str(final).startswith("gs://b/o: access refused: ") and "\n" not in str(final)


@pytest.mark.parametrize(
    "error",
    [OSError("Connection reset, not Forbidden"), HttpError(503), ValueError("no content")],
    ids=["reset", "503", "no content"],
)
def test_what_may_pass_is_not_taken_for_a_refusal(error: Exception) -> None:
    assert store_errors.is_failure(error, remote=True)
    assert store_errors.permanent("gs://b/o", error, remote=True) is None


def test_a_bad_request_is_told_at_once_and_only_of_a_store() -> None:
    error = ValueError("Bad Request: b/o\nName is invalid")
    final = store_errors.permanent("gs://b/o", error, remote=True)
    assert type(final) is OSError
    assert str(final) == "gs://b/o: Bad Request: b/o Name is invalid"
    assert not store_errors.is_failure(error, remote=False)
