"""Who asks and where: the context that comes with a request, and what is configured for all of them. It must not know HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from stepwell.engine.ids import StatesArn

DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT = "000000000000"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The region and account that new resources belong to. `principal` is the id of the API key, where one was shown."""

    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    partition: str = "aws"
    principal: str | None = None

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a resource here."""
        return str(StatesArn(self.partition, self.region, self.account, kind, name))


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What the use-cases can be told.

    `machine_cache_ms`: how long a state machine read for a start may be used for further ones; an update through another
    node is seen after at most that time. `machine_types`: the types that can be created. `target`: whose rules definitions
    are held to (`stepwell` or `aws`). `reveal_secrets`: whether a test of a state may show those of a connection.
    """

    region: str = DEFAULT_REGION
    account: str = DEFAULT_ACCOUNT
    machine_cache_ms: int = 1_000
    machine_types: frozenset[str] = frozenset({"STANDARD", "EXPRESS"})
    target: str = "stepwell"
    reveal_secrets: bool = False
