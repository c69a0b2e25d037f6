"""The layer that all apps stand on. It imports no app. The first line of each module says what it is for."""

from shared import quiet

quiet.install()
