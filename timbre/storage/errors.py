"""What a store's failure means: told in one line, and whether trying again can help.

The libraries behind fsspec (botocore, aiohttp, google-auth, ...) are not installed everywhere and
raise what is no OSError, so they are told apart by class name and by the code in their answer.
"""

import re

REFUSED_CLASSES = frozenset(
    {
        "ClientAuthenticationError",
        "CredentialRetrievalError",
        "DefaultCredentialsError",
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
REFUSED_CODES = frozenset(
    {
        # A HEAD is answered without a body: AWS says 400 to an expired token, 403 to all the rest.
        "400",
        "401",
        "403",
        "AccessDenied",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
REDIRECT_CODES = frozenset({"301", "302", "303", "307", "308", "PermanentRedirect"})
# gcsfs says 403 and some 400 and 401 with an OSError or ValueError that has no code.
REFUSED_TEXT = re.compile(
    r"(forbidden|unauthorized)\b|.*\binvalid (authentication )?credentials", re.I | re.S
)
LONGEST_CHAIN = 20
# Azure's library adds the number of the request, its time and the whole answer.
AZURE_DETAILS = "\nRequestId:"
BAD_REQUEST = "Bad Request"
PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class StoreError(OSError):
    """A store, not one file in it, is the trouble: it kept failing, or refuses."""


class RefusedError(StoreError, PermissionError):
    """A store that lets nobody in with these credentials."""


class RedirectError(StoreError):
    """A store that says that what was asked for is at another host."""


class EndOfFileError(OSError):
    """The file ends before the bytes that were asked for; the message names the file."""


def is_failure(error: Exception, remote: bool) -> bool:
    """Whether an exception is a file system's or a library's failure, not a fault of the program.

    Of a remote store a plain ValueError is one too: so gcsfs tells of a bad request.
    """
    library = type(error).__module__ != "builtins"
    return isinstance(error, OSError) or library or (remote and isinstance(error, ValueError))


def permanent(url: object, error: Exception, remote: bool) -> OSError | None:
    """Return the error to raise at once, or None if trying again may help."""
    if isinstance(error, EndOfFileError):
        return error
    if redirect := _redirect_behind(error):
        return RedirectError(f"{url}: {redirect}")
    if remote and code(error) in REDIRECT_CODES:
        return RedirectError(
            f"{url}: the store redirects to another host ({reason(error)}), which is not followed; "
            "check endpoint and region"
        )
    if remote and _is_refusal(error):
        return RefusedError(
            f"{url}: access refused: {reason(error)}; check that the credentials are set, not"
            " expired and allowed to do this, and that endpoint and region are theirs"
        )
    if isinstance(error, FileNotFoundError):
        absence = "no such bucket" if code(error) == "NoSuchBucket" else "no such file"
        return FileNotFoundError(f"{url}: {error.strerror or absence}")
    if isinstance(error, PERMANENT):
        return type(error)(f"{url}: {reason(error)}")
    # botocore's, and gcsfs's: a name that no bucket can have.
    bad = isinstance(error, ValueError) and str(error).startswith(BAD_REQUEST)
    if bad or type(error).__name__ == "ParamValidationError":
        return OSError(f"{url}: {reason(error)}")
    return None


def rename_error(error: OSError, message: str) -> OSError:
    """Return an error of the same class and number with this message, and why it failed behind it."""
    fresh = type(error)(f"{message}: {reason(error)}")
    fresh.errno = error.errno  # not by the constructor, which would put it into the text
    return fresh


def reason(error: Exception) -> str:
    """Return in one line what a failure says of itself."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    text = text.partition(AZURE_DETAILS)[0]
    text = " ".join(text.split()) or type(error).__name__
    name = code(error)
    return text if not name or name.isdigit() or name in text else f"{name}: {text}"


def code(error: BaseException) -> str:
    """Return the code that a store answered with (``NoSuchKey``, ``403``), or an empty string."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return str(response.get("Error", {}).get("Code", ""))
    if error.__cause__ is not None:  # s3fs raises OSErrors from botocore's
        return code(error.__cause__)
    codes = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    # Not 400: aiohttp has it in errors of its own, such as a body that breaks off.
    return next((str(number) for number in codes if isinstance(number, int) and number != 400), "")


def _redirect_behind(error: BaseException | None) -> RedirectError | None:
    """Return the redirect that a library's error was made of, if it was."""
    for _ in range(LONGEST_CHAIN):
        if error is None or isinstance(error, RedirectError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_refusal(error: Exception) -> bool:
    return (
        isinstance(error, PermissionError)
        or type(error).__name__ in REFUSED_CLASSES
        or code(error) in REFUSED_CODES
        or (type(error) in (OSError, ValueError) and bool(REFUSED_TEXT.match(str(error))))
    )
