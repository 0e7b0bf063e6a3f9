"""What can go wrong in the review service, in its own words; `web.problems` gives each its HTTP status."""

from __future__ import annotations


class ReviewError(Exception):
    """The service refuses; the text says what was given, what was expected and what to do."""


class SettingsError(ReviewError, ValueError):
    """A setting, a name or a password is outside what the service accepts."""


class DatabaseError(ReviewError, RuntimeError):
    """The database cannot be opened or is of another version."""


class AuditUnavailableError(ReviewError, RuntimeError):
    """An entry could not be written to the audit log, so nothing that needs one happens."""


class AnchorError(ReviewError, ValueError):
    """A file of the log's signed heads cannot be read or written, or holds what this service did not sign."""


class DeviceTokenError(ReviewError, PermissionError):
    """The request carries no token of an enrolled device."""


class SignatureRefusedError(ReviewError, PermissionError):
    """A message is not signed by the device that it claims to come from."""


class EnrolmentError(ReviewError, PermissionError):
    """The code admits no device: unknown, used, out of date, or the message with it is not of the documented form."""


class KeyGoneError(ReviewError, LookupError):
    """The data key of a clip was destroyed, or never came."""


class UnsealError(ReviewError, ValueError):
    """A clip is not what its device sealed."""


class EventRefusedError(ReviewError, ValueError):
    """The event is not what the wire format says."""


class ConsentRequiredError(ReviewError, PermissionError):
    """The household behind the event has not consented to it, as far as its device told this service."""


class EventConflictError(ReviewError, ValueError):
    """The device already sent other bytes under this event id."""


class EventDeletedError(ReviewError, LookupError):
    """The event was deleted; it is not taken again. `signature` is the service's, over the event's tombstone."""

    def __init__(self, message: str, event_id: str, signature: bytes = b"") -> None:
        super().__init__(message)
        self.event_id = event_id
        self.signature = signature


class UnknownEventError(ReviewError, LookupError):
    """The device sent no such event, or the event declares no such object."""


class DigestError(ReviewError, ValueError):
    """The `Content-Digest` field is missing or malformed."""


class ObjectConflictError(ReviewError, ValueError):
    """The digest announced for the object is not the one that its event declares."""


class ObjectMismatchError(ReviewError, ValueError):
    """The bytes received are not the object that the event declares."""


class TooLargeError(ReviewError, ValueError):
    """A body is larger than the service takes."""


class MediaTypeError(ReviewError, ValueError):
    """A body is of a kind that the service does not take here."""


class BlobMissingError(ReviewError, LookupError):
    """An object that the database lists is not in the blob store."""


class BlobStoreError(ReviewError, RuntimeError):
    """The store of clips takes nothing, or cannot be reached; what wanted to be kept there was not acknowledged."""


class KeyStoreError(ReviewError, RuntimeError):
    """The store of wrapped keys takes none, gives none, or does not destroy what it should."""


class SoundError(ReviewError, ValueError):
    """A clip cannot be decoded."""


class BundleOfferError(ReviewError, ValueError):
    """A bundle cannot be offered, or a file of one that was is no longer here."""


class UnknownBundleError(ReviewError, LookupError):
    """The device was offered no such bundle."""


class UnknownCaseError(ReviewError, LookupError):
    """There is no such case."""


class CaseNotReadyError(ReviewError, ValueError):
    """The case cannot be claimed in the state that it is in."""


class IllegalMoveError(ReviewError, ValueError):
    """A case in this state cannot make this move."""


class StaleLeaseError(ReviewError, PermissionError):
    """The claim has ended, or was never this session's; whatever it wanted to do did not happen."""


class LeaseLimitError(ReviewError, ValueError):
    """The reviewer already holds as many cases as one may."""

    def __init__(self, message: str, held_case_id: str) -> None:
        super().__init__(message)
        self.held_case_id = held_case_id


class RestDueError(ReviewError, ValueError):
    """The account has looked and listened for as long as one may without a rest."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OriginalClosedError(ReviewError, PermissionError):
    """The original of this clip is not open under this claim: nobody asked, nobody else agreed, or the time is over."""


class UnknownRequestError(ReviewError, LookupError):
    """There is no such request to hear an original, or it was answered."""


class UnknownDeviceError(ReviewError, LookupError):
    """There is no such device."""


class FormError(ReviewError, ValueError):
    """A form field is missing or outside what it may hold."""


class CsrfError(ReviewError, PermissionError):
    """The form was not issued to this session."""


class NotSignedInError(ReviewError, PermissionError):
    """The request carries no live session."""


class NotAllowedError(ReviewError, PermissionError):
    """The account's role does not reach this far."""


class SignInError(ReviewError, PermissionError):
    """Name and password do not belong together."""


class NotOfferedError(ReviewError, LookupError):
    """This service is not set up for that way of signing in."""


class ProviderError(ReviewError, RuntimeError):
    """The provider of identities cannot be reached, or does not speak as one must."""


class MonitorError(ReviewError, PermissionError):
    """The figures are not for this caller."""


class TooManyAttemptsError(ReviewError, PermissionError):
    """Sign-in is paused for this name or address."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
