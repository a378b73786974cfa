"""What a board accepts, put together once for a job. In a file of its own, because it outlives the code that decides."""


class Rules:
    """What this board accepts, put together once for a job."""

    def __init__(self, name, keys=(), floor=0, force=False, now=None, expect=None, running=None, excluded=(), room=None):
        self.name = name  # the board's shortName
        self.keys = keys  # pinned JWKs
        self.floor = floor  # the highest sequence that was confirmed here
        self.force = force
        self.now = now  # seconds since 1970, or None
        self.expect = expect  # (version, sequence) that the channel file announced, or None
        self.running = running  # the running version
        self.excluded = excluded  # the profile's files that updates leave alone
        self.room = room  # memory for checking the signature
        self.whole = None  # `tree` of a delta whose base this job has found whole already
