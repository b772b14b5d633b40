"""Environment variables that are withheld: by what their names say they hold, not by whose they are.

Rows are ``(name glob, reason)``; names are compared without regard to case. Vendors' families are not withheld whole:
``GITHUB_SHA`` or ``AWS_REGION`` steer builds and tell nothing, while every vendor's credential has a name that says so.
``value_looks_secret`` serves callers for variables whose name is innocent (``DATABASE_URL``).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    NameRow = tuple[str, str]

WITHHELD: Final[tuple[NameRow, ...]] = (
    ("*_TOKEN", "a token by its name"),
    ("*_TOKEN_*", "a token, or where to get one (ACTIONS_ID_TOKEN_REQUEST_URL)"),
    ("TOKEN", "a token by its name"),
    ("*AUTHTOKEN*", "a token by its name (npm_config_…:_authToken)"),
    ("*ACCESSTOKEN*", "a token by its name"),
    ("*_PAT", "a personal access token by its name"),
    ("*_JWT", "a token by its name"),
    ("*_KEY", "a key by its name"),
    ("*_KEY_*", "a key, or its parts (AWS_ACCESS_KEY_ID, SECRET_KEY_BASE)"),
    ("*_KEYS", "keys by its name"),
    ("*APIKEY*", "a key by its name"),
    ("API_KEY*", "a key by its name"),
    ("*SECRET*", "a secret by its name"),
    ("*PASSWORD*", "a password by its name"),
    ("*PASSWD*", "a password by its name"),
    ("*PASSPHRASE*", "a passphrase by its name"),
    ("*_PASS", "a password by its name"),
    ("*_PASS_*", "a password by its name"),
    ("*_PWD", "a password by its name (MYSQL_PWD)"),
    ("SSHPASS", "the password sshpass types"),
    ("*CREDENTIAL*", "credentials, or the path to them"),
    ("*_CREDS", "credentials by its name"),
    ("*_AUTH", "credentials by its name"),
    ("*_AUTH_*", "credentials, or the socket that gives them (SSH_AUTH_SOCK)"),
    ("*AUTHORIZATION*", "a header with credentials"),
    ("*_COOKIE", "a session by its name"),
    ("*_CUSTOM_HEADERS", "headers, often with credentials (ANTHROPIC_CUSTOM_HEADERS)"),
    ("*_HEADERS", "headers, often with credentials (OTEL_EXPORTER_OTLP_HEADERS)"),
    ("*CONNECTION_STRING*", "an address with its password"),
    ("*_CONN_STR", "an address with its password"),
    ("*_WEBHOOK_URL", "whoever knows the address may post"),
    ("*_WEBHOOK", "whoever knows the address may post"),
    ("KUBECONFIG", "leads to cluster credentials"),
    ("KRB5CCNAME", "leads to Kerberos tickets"),
    ("NETRC", "leads to passwords by host"),
    ("DOCKER_HOST", "leads to a container engine, which is root on the host"),
    ("CONTAINER_HOST", "leads to a container engine, which is root on the host"),
    ("SSH_AGENT_PID", "belongs to an agent that is out of reach"),
    ("GPG_AGENT_INFO", "socket of an agent that is out of reach"),
    ("GNUPGHOME", "leads to private keys"),
    ("GIT_ASKPASS", "asks a program outside for a password; git asks at the terminal instead"),
    ("VSCODE_GIT_*", "sockets through which VS Code hands out git credentials"),
    ("VSCODE_IPC_HOOK*", "socket through which VS Code opens files and runs commands outside"),
    ("DBUS_*_ADDRESS", "a bus that is out of reach; programs wait for it or fail late"),
    ("DISPLAY", "a screen that is out of reach; without it programs choose their headless way"),
    ("WAYLAND_DISPLAY", "a screen that is out of reach; without it programs choose their headless way"),
    ("WAYLAND_SOCKET", "a descriptor that is not handed in"),
    ("XAUTHORITY", "the key to your screen and keyboard"),
    ("SESSION_MANAGER", "a session that is out of reach"),
    ("TMUX", "socket that types into your other panes; out of reach"),
    ("STY", "socket that types into your other windows; out of reach"),
    ("ZELLIJ*", "socket that types into your other panes; out of reach"),
    ("KITTY_LISTEN_ON", "socket that controls your terminal; out of reach"),
    ("WEZTERM_UNIX_SOCKET", "socket that controls your terminal; out of reach"),
    ("ALACRITTY_SOCKET", "socket that controls your terminal; out of reach"),
    ("NVIM", "socket that runs commands in the surrounding Neovim; out of reach"),
    ("NVIM_LISTEN_ADDRESS", "socket that runs commands in the surrounding Neovim; out of reach"),
    ("I3SOCK", "socket that controls your desktop; out of reach"),
    ("SWAYSOCK", "socket that controls your desktop; out of reach"),
    ("HYPRLAND_INSTANCE_SIGNATURE", "names a socket that controls your desktop; out of reach"),
    ("WSL_INTEROP", "socket that runs Windows programs; closed"),
    ("LISTEN_FDS", "descriptors that are not handed in"),
    ("LISTEN_PID", "descriptors that are not handed in"),
    ("NOTIFY_SOCKET", "socket of the service manager; out of reach"),
    ("CREDENTIALS_DIRECTORY", "systemd credentials"),
)

# Names that match a row above and hold nothing secret.
PASSED: Final[tuple[NameRow, ...]] = (
    ("GIT_CONFIG_KEY_*", "names of git settings; their values are GIT_CONFIG_VALUE_*"),
    ("GIT_ALLOW_PROTOCOL", "a list of protocols"),
    ("OLDPWD", "a directory"),
    ("*_PUBLIC_KEY", "public by its name"),
    ("*_PUBLISHABLE_KEY", "public by its name"),
    ("*_CACHE_KEY", "a label of a cache"),
    ("*_SORT_KEY", "a label"),
    ("*_PARTITION_KEY", "a label"),
    ("*_PRIMARY_KEY", "a column"),
    ("*_FOREIGN_KEY*", "a column"),
    ("APT_KEY_DONT_WARN_ON_DANGEROUS_USAGE", "a switch"),
    ("*_TOKEN_LIMIT*", "a number"),
    ("*_TOKEN_COUNT*", "a number"),
    ("*_TOKEN_BUDGET*", "a number"),
    ("COMPOSER_NO_AUDIT", "a switch"),
)

# Beginnings that vendors chose so that their tokens can be recognised.
PREFIXES: Final[tuple[str, ...]] = (
    "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-", "glrt-", "glcbt-",
    "sk-", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_", "xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe", "xapp-",
    "AIza", "ya29.", "npm_", "pypi-", "dckr_pat_", "dop_v1_", "doo_v1_", "hf_", "hvs.", "hvb.", "gsk_", "xai-", "r8_",
    "rubygems_", "shpat_", "shpss_", "shpca_", "lin_api_", "ntn_", "secret_", "figd_", "sbp_", "eyJhbGciOi", "AGE-SECRET-KEY-",
    "SG.", "tskey-", "pul-", "ops_", "dp.st.", "dp.pt.", "ATATT", "ATCTT", "NRAK-", "PMAK-",
)  # fmt: skip
_AWS: Final = ("AKIA", "ASIA")
_SHORTEST = 20

_MARKS: Final[tuple[str, ...]] = ("-----BEGIN ", "PRIVATE KEY-----")


def value_looks_secret(value: str) -> bool:
    """Whether a variable's value is a credential by its form: a private key, a well-known token, a URL with a password.

    Takes time linear in the length of ``value``. A password without a form (``hunter2``) is not recognised; the
    variable's name is what the table is for.
    """
    text = value.strip()
    if _MARKS[0] in text and _MARKS[1] in text:
        return True
    if text.startswith(_AWS) and len(text) == _SHORTEST and text.isalnum() and text.isupper():
        return True
    if text.startswith(PREFIXES) and len(text) >= _SHORTEST and _is_one_word_with_a_digit(text):
        return True
    return "://" in text and any(_has_password(word) for word in text.split())


def _is_one_word_with_a_digit(text: str) -> bool:
    return any(char.isdigit() for char in text) and not any(char.isspace() or char == "/" for char in text)


def _has_password(url: str) -> bool:
    _scheme, found, rest = url.partition("://")
    if not found:
        return False
    for end in "/?#":
        rest = rest.partition(end)[0]
    userinfo, at, _host = rest.rpartition("@")
    _user, colon, password = userinfo.partition(":")
    return bool(at and colon and password) and password[:1] not in ("$", "<", "{", "*")
