"""`stepwell connections`: how HTTP tasks authenticate. Secrets come from a prompt, stdin, a file or a variable, never from arguments."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from stepwell.cli.client import Client, part
from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.options import json_option, pass_output, read_file
from stepwell.cli.output import Output, moment


@click.group()
def connections() -> None:
    """How HTTP tasks authenticate."""


@connections.command()
@click.argument("name")
@click.option("--api-key", "header", metavar="HEADER", help="An API key, sent in this header.")
@click.option("--bearer", is_flag=True, help="A token, sent as Authorization: Bearer.")
@click.option("--basic", "username", metavar="USERNAME", help="A user name and a password.")
@click.option(
    "--oauth", "token_url", metavar="TOKEN_URL", help="OAuth client credentials from this endpoint; needs --client-id."
)
@click.option("--client-id", help="The OAuth client.")
@click.option(
    "--parameters", metavar="FILE", help="EventBridge's AuthParameters as JSON (- is stdin), for everything else."
)
@click.option("--secret-env", metavar="VARIABLE", help="Take the secret from this environment variable.")
@click.option("--secret-file", metavar="FILE", help="Take the secret from this file (- is stdin).")
@json_option
@pass_output
def add(
    output: Output,
    name: str,
    header: str | None,
    bearer: bool,
    username: str | None,
    token_url: str | None,
    client_id: str | None,
    parameters: str | None,
    secret_env: str | None,
    secret_file: str | None,
) -> None:
    """Make or change the connection NAME. The secret is asked for, unless --secret-env or --secret-file says where it is."""
    chosen = [bool(header), bearer, bool(username), bool(token_url), bool(parameters)]
    if sum(chosen) != 1:
        raise click.UsageError(
            "Say one of --api-key HEADER, --bearer, --basic USERNAME, --oauth TOKEN_URL, --parameters FILE."
        )
    if parameters is not None:
        given = _parameters_in(parameters)
    else:
        if token_url is not None and client_id is None:
            raise click.UsageError("--oauth needs --client-id.")
        given = _auth_parameters(header, username, token_url, client_id, read_secret(secret_env, secret_file))
    view = Client.from_environment().put(f"/v1/connections/{part(name)}", {"authParameters": given})
    output.document(view)
    output.say(f"{view['name']}  {view['authorizationType']}  {view['arn']}")


def _parameters_in(file: str) -> Any:
    try:
        return json.loads(read_file(Path(file)))
    except ValueError as error:
        raise Failure(f"{file} is not valid JSON: {error}.", ExitCode.UNUSABLE, code="InvalidInput") from None


def _auth_parameters(
    header: str | None, username: str | None, token_url: str | None, client_id: str | None, secret: str
) -> dict[str, Any]:
    """EventBridge's AuthParameters (API reference, CreateConnection)."""
    if username is not None:
        return {"BasicAuthParameters": {"Username": username, "Password": secret}}
    if token_url is not None:
        return {
            "OAuthParameters": {
                "AuthorizationEndpoint": token_url,
                "HttpMethod": "POST",
                "ClientParameters": {"ClientID": client_id, "ClientSecret": secret},
            }
        }
    name, value = (header, secret) if header is not None else ("Authorization", f"Bearer {secret}")
    return {"ApiKeyAuthParameters": {"ApiKeyName": name, "ApiKeyValue": value}}


def read_secret(variable: str | None, file: str | None) -> str:
    """A secret from where it was said to be, else from a prompt that shows nothing; from stdin where nobody can be asked."""
    if variable is not None:
        secret = os.environ.get(variable, "")
        if not secret:
            raise Failure(f"The environment variable {variable} is not set.", ExitCode.UNUSABLE, code="NoSecret")
        return secret
    if file is not None:
        secret = read_file(Path(file)).decode("utf-8", "replace").rstrip("\r\n")
    elif sys.stdin.isatty():
        secret = str(click.prompt("Secret", hide_input=True, err=True))
    else:
        secret = sys.stdin.read().rstrip("\r\n")
    if not secret:
        raise Failure("The secret is empty.", ExitCode.UNUSABLE, code="NoSecret")
    return secret


@connections.command(name="list")
@json_option
@pass_output
def list_(output: Output) -> None:
    """List connections, without their secrets. With --json, one a line."""
    found = list(Client.from_environment().pages("/v1/connections"))
    for view in found:
        output.record(view)
    rows = [(view["name"], view["authorizationType"], moment(view["createdAt"]), view["arn"]) for view in found]
    output.table(
        ["NAME", "TYPE", "CREATED", "ARN"], rows, "No connections. `stepwell connections add NAME ...` makes one."
    )


@connections.command()
@click.argument("name")
@json_option
@pass_output
def remove(output: Output, name: str) -> None:
    """Remove the connection NAME and its secret."""
    Client.from_environment().delete(f"/v1/connections/{part(name)}")
    output.document({"removed": name})
    output.say(f"removed {name}")
