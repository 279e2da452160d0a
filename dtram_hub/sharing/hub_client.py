"""Requests to the Hub. `again` repeats a request that may succeed later. `explained` turns errors into one
sentence each. `push` and `pull` make every request through both.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import HfApi, constants, errors
from huggingface_hub.utils import validate_repo_id
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from ..learning.run_folder import METRICS, PICTURES, RECIPE
from ..models.checkpoint import CONFIG, WEIGHTS
from ..prompt import one_line

try:
    import httpx2 as httpx  # the client of huggingface_hub 2
except ImportError:
    import httpx  # type: ignore[no-redef]

T = TypeVar("T")
CARD = "README.md"
# The files of a push. It leaves all other files of a repository as they are.
PUSHED = (CONFIG, WEIGHTS, CARD, METRICS, RECIPE, *PICTURES, ".eval_results/*.yaml")
PASSING = (408, 412, 429, 500, 502, 503, 504)  # 412: someone else committed in the meantime
LONGEST_WAIT = 60.0


def check_repo_id(repo_id: str) -> None:
    """ValueError unless the Hub takes `repo_id` as "org/name"."""
    if not isinstance(repo_id, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(f"repo_id={repo_id!r} is not of the form 'org/name'.")
    with explained(repo_id, None):
        validate_repo_id(repo_id)


def open_api(repo_id: str, token: str | None) -> HfApi:
    """Make the Hub's client; ValueError as in `check_repo_id`, or if `token` has blanks."""
    check_repo_id(repo_id)
    if isinstance(token, str) and not re.fullmatch(r"[!-~]+", token):
        raise ValueError("token has blanks or characters outside of ASCII; accepted is a token of the Hub.")
    return HfApi(token=token, library_name="dtram-hub")


def again(function: Callable[..., T], *args, **kwargs) -> T:
    """Call a function until it succeeds, at most four times; a second call must be harmless."""
    retrying = Retrying(
        retry=retry_if_exception(_is_passing), wait=_wait, stop=stop_after_attempt(4), reraise=True
    )
    return retrying(function, *args, **kwargs)


@contextmanager
def explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn the client's errors into one sentence each, without their requests, which hold the token.

    Raises:
        ValueError: a bad name, or no such repository or revision.
        PermissionError: the Hub refuses the token.
        ConnectionError: the Hub does not answer, or answers with an error.
    """
    here = f"repo_id={repo_id!r}"
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"{here}: {one_line(error)}") from None
    except errors.GatedRepoError:
        raise PermissionError(
            f"{here} is gated: ask for access on its page, then log in with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise ValueError(
            f"{here} does not exist on {constants.ENDPOINT}, or your token may not see it; "
            "log in with `hf auth login` or pass token=."
        ) from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"revision={revision!r} is no branch, tag or commit of {repo_id!r}.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if isinstance(root := _root(error), errors.HfHubHTTPError):
            raise _of_status(root, here) from None
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError(
                f"{here} is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch it."
            ) from None
        raise ConnectionError(
            f"{here} could not be fetched from {constants.ENDPOINT}, and the cache does not have it."
        ) from None
    except errors.HfHubHTTPError as error:
        raise _of_status(error, here) from None
    except json.JSONDecodeError:
        raise ConnectionError(f"{here}: the Hub answers with an error page; try again later.") from None
    except httpx.HTTPError as error:
        raise ConnectionError(
            f"{here}: {constants.ENDPOINT} does not answer ({type(error).__name__}); try again later."
        ) from None


def _of_status(error: errors.HfHubHTTPError, here: str) -> OSError:
    status = error.response.status_code
    if status == 401:
        return PermissionError(f"{here}: the Hub refuses the token; log in with `hf auth login`.")
    if status == 403:
        return PermissionError(f"{here}: your token may not write there.")
    if status == 412:
        return ConnectionError(f"{here} is being changed by someone else; nothing was pushed, try again.")
    seconds = _retry_after(error)
    later = f"in {seconds:.0f} seconds" if seconds else "later"
    said = error.server_message or "no reason given"
    return ConnectionError(f"{here}: the Hub answers {status} ({said}); try again {later}.")


def _retry_after(error: BaseException | None) -> float | None:
    """The seconds to wait that the Hub asks for, or None."""
    headers = getattr(getattr(_root(error), "response", None), "headers", {})
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _root(error: BaseException | None) -> BaseException | None:
    """The error of the request behind a LocalEntryNotFoundError, or `error` itself."""
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None
    return error if cause is None else _root(cause)


def _is_passing(error: BaseException) -> bool:
    root = _root(error)
    if isinstance(root, errors.HfHubHTTPError) and root.response is not None:
        return root.response.status_code in PASSING and (_retry_after(error) or 0) <= LONGEST_WAIT
    if isinstance(error, errors.LocalEntryNotFoundError):
        return not constants.HF_HUB_OFFLINE
    # A JSONDecodeError is an error page. A bare OSError is a file of another size than announced.
    return isinstance(error, httpx.TransportError | json.JSONDecodeError) or (
        type(error) is OSError and error.errno is None
    )


def _wait(state: RetryCallState) -> float:
    asked = _retry_after(state.outcome.exception()) if state.outcome else None
    return asked or wait_exponential_jitter(initial=1, max=8)(state)
