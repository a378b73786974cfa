"""Other ways to an update, where the usual one does not lead there.

1. A delta that cannot be used on this board: the full bundle, in the same job.
2. An archive that does not fit on flash beside the stage: unpacked straight from the network.

What is wrong with a signature, a name or a sequence is wrong in every way.
"""

_REFUSED = (
    "no_signature bad_signature bad_key wrong_name old_sequence version_mismatch expired wrong_mpy bad_path protected_path"
).split()
_AGAIN = "no_network dns connect timeout tls connection_lost redirect".split()  # the network's fault: the delta comes later


def other(ota, offer, error):
    """The Offer to try after `error`; where there is none, what happened is noted and `error` raised."""
    ota.forget()
    if error.reason == "no_space" and not offer.legacy and not offer.streamed:
        ota.log("short of disk:", error.message)
        ota.log("unpacking straight from the network, without the archive on flash")
        ota.discard()
        offer.streamed = True
        return offer
    if offer.full and (error.kind in ("transport", "verification") and error.reason not in _REFUSED + _AGAIN):
        if error.reason != "http_status" or error.retry is None:
            ota.warn("the delta is of no use here: %s (%s); taking the full bundle" % (error.message, error.reason))
            ota.store.set("no_delta", offer.source)
            offer.full.streamed = offer.streamed
            return offer.full
    if error.kind == "verification" or error.reason == "no_space":  # the same bytes would end in the same way
        ota.store.set("refused", [offer.source, error.reason, error.message])
    raise error
