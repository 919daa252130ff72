"""Every failure that the system raises on purpose: HTTP status, a stable code, whether a retry can help.

* MlSystemError
  x RequestRefused                    the client's request is wrong; sending it again cannot help
    - InvalidImage          400       not an image, truncated, too many pixels
    - Unauthorized          401
    - Forbidden             403
    - ModelNotFound         404       the path names a model or a version that is not served
    - SlowRequest           408       the body did not arrive in time
    - PayloadTooLarge       413
    - UnsupportedMedia      415
    - RateLimited           429       more requests a second than the key may send; a retry helps
  x Unavailable             503       not the request's fault; a retry helps
    - ModelNotReady
    - Overloaded            429       more is waiting than the replica can answer soon
    - DeadlineExceeded                the client's own deadline passed before the answer
  x DataError                         training data is missing, altered or implausible
  x ModelRejected                     a model is below the bar or worse than production
  x RegistryError                     the registry or an artifact cannot be read, or is not what it says
  x StorageError                      database or object store cannot be used
"""

from __future__ import annotations


class MlSystemError(Exception):
    """Base of all. The message names subject, value, remedy, and holds no secret and no image bytes."""

    status: int = 500
    code: str = "internal"
    retryable: bool = False


class RequestRefused(MlSystemError):
    """The request itself is wrong."""

    status = 400
    code = "bad-request"


class UnsupportedMedia(RequestRefused):
    """The content type is not one that the service takes."""

    status = 415
    code = "unsupported-media-type"


class PayloadTooLarge(RequestRefused):
    """The body is longer than the limit."""

    status = 413
    code = "payload-too-large"


class InvalidImage(RequestRefused):
    """The bytes are no image of the declared type, are cut short, or decode to more pixels than the limit."""

    code = "invalid-image"


class Unauthorized(RequestRefused):
    """No API key, or one that is not known."""

    status = 401
    code = "unauthorized"


class Forbidden(RequestRefused):
    """The key is known and lacks the scope."""

    status = 403
    code = "forbidden"


class ModelNotFound(RequestRefused):
    """The path names a model or a version that is not served here."""

    status = 404
    code = "model-not-found"


class SlowRequest(RequestRefused):
    """The body did not arrive in time."""

    status = 408
    code = "slow-request"


class RateLimited(RequestRefused):
    """The key sends more requests a second than it may."""

    status = 429
    code = "rate-limited"
    retryable = True


class Unavailable(MlSystemError):
    """The service cannot answer now."""

    status = 503
    code = "unavailable"
    retryable = True


class ModelNotReady(Unavailable):
    """No verified model is loaded yet."""

    code = "model-not-ready"


class Overloaded(Unavailable):
    """More is waiting than the replica can answer soon.

    429 and not 503: by 503 the ingress knows a replica that has no model, tries another one and soon sends it nothing.
    """

    status = 429
    code = "overloaded"


class DeadlineExceeded(Unavailable):
    """The client's own deadline passed before there was an answer."""

    code = "deadline-exceeded"


class DataError(MlSystemError):
    """Training data is missing, altered or implausible."""


class ModelRejected(MlSystemError):
    """A trained model is below the bar, or worse than the one in production."""


class RegistryError(MlSystemError):
    """The registry or an artifact cannot be read, or is not what it claims to be."""

    retryable = True


class StorageError(MlSystemError):
    """The database or the object store cannot be used."""

    retryable = True
