"""What a stage refuses or gives up on; each message says what to do."""


class StageError(ValueError):
    """A run cannot start or go on."""


class NothingToTrainError(StageError):
    """The manifest has too few usable training clips."""


class EmptyEpochError(StageError):
    """An epoch without a single batch: the settings ask for more than the data has."""


class ResumeError(StageError):
    """There is a run that this command does not go on with."""


class DivergedError(StageError):
    """The loss is no longer a number; the last state is from before."""
