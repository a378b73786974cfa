"""What a check finds. In a file of its own, because it outlives the check's code in memory."""


class Offer:
    """A release that this board should take."""

    def __init__(self, version, sequence, file, size, sha256, unpacked=None, legacy=False, source=None, full=None):
        self.version = version
        self.sequence = sequence  # None on the `latest` protocol
        self.file = file
        self.size = size  # bytes of the archive, None where `latest` does not say
        self.sha256 = sha256
        self.unpacked = unpacked  # bytes of all files, where the channel file says so
        self.legacy = legacy
        self.source = source  # digest of the channel file, to know when it changes
        self.full = full  # of a delta: the Offer of the full bundle
        self.streamed = False  # True where there is no room for the archive: it is unpacked straight from the network
