"""What the presets decide about concrete paths and variables of a developer's machine."""

from __future__ import annotations

import pytest

from houseroom.errors import PolicyError
from houseroom.policy import presets
from houseroom.policy.decide import Allow, PlacedPolicy, Read, Variable, Write, decide
from houseroom.policy.model import ACCESSES, EXCEPT, Origin, Places, Policy, Rule
from houseroom.policy.pattern import components
from houseroom.policy.variables import value_looks_secret

PLACES = Places("/home/ada/project", "/home/ada", user=1000)
SESSION = Origin("session", "command line")


def placed(name: str, *more: Rule, places: Places = PLACES) -> PlacedPolicy:
    stratum = presets.preset(name)
    return PlacedPolicy(Policy(name, (stratum.with_(rules=(*stratum.rules, *more)),)), places)


WORKSPACE = placed("workspace")

HIDDEN = """
~/.ssh/id_ed25519 ~/.ssh/config ~/.gnupg/private-keys-v1.d/x.key ~/.aws/credentials ~/.aws/sso/cache/x.json
~/.config/gcloud/application_default_credentials.json ~/.azure/msal_token_cache.json ~/.kube/config ~/.docker/config.json
~/.config/containers/auth.json ~/.netrc ~/.pypirc ~/.npmrc ~/.yarnrc.yml ~/.cargo/credentials.toml ~/.gem/credentials
~/.config/composer/auth.json ~/.m2/settings.xml ~/.gradle/gradle.properties ~/.git-credentials ~/.config/git/credentials
~/.config/gh/hosts.yml ~/.config/glab-cli/config.yml ~/.config/hub ~/.config/tea/config.yml ~/.terraform.d/credentials.tfrc.json
~/.claude/.credentials.json ~/.claude.json ~/.codex/auth.json ~/.gemini/oauth_creds.json ~/.local/share/opencode/auth.json
~/.aider.conf.yml ~/.config/github-copilot/apps.json ~/.config/goose/secrets.yaml ~/.local/share/amp/secrets.json
~/.cache/huggingface/token ~/.config/Code/User/globalStorage/state.vscdb ~/.config/JetBrains/IdeaIC2026.1/c.kdbx
~/.mozilla/firefox/x.default/logins.json ~/.config/google-chrome/Default/Cookies ~/.config/BraveSoftware/x
~/snap/firefox/common/.mozilla/firefox/x ~/.var/app/com.google.Chrome/config/x ~/.cache/mozilla/firefox/x
~/.thunderbird/x ~/.config/neomutt/neomuttrc ~/.local/share/keyrings/login.keyring ~/.local/share/kwalletd/kdewallet.kwl
~/.password-store/web/mail.gpg ~/.config/op/config ~/.bash_history ~/.zsh_history ~/.local/share/fish/fish_history
~/.python_history ~/.node_repl_history ~/.psql_history ~/.mysql_history ~/.viminfo ~/.local/state/nvim/shada/main.shada
~/.lesshst ~/.pgpass ~/.my.cnf ~/.config/rclone/rclone.conf ~/.config/borg/keys/x ~/.config/Signal/sql/db.sqlite
~/.config/Slack/Cookies ~/.config/discord/Cookies ~/.bitcoin/wallet.dat ~/.electrum/wallets/x ~/.vault-token
~/.config/sops/age/keys.txt ~/.Xauthority ~/.local/state/houseroom/trust ~/.android/adbkey
/etc/shadow /etc/shadow- /etc/gshadow /etc/sudoers.d/x /etc/ssh/ssh_host_ed25519_key /etc/wireguard/wg0.conf
/etc/ssl/private/key.pem /etc/kubernetes/admin.conf /var/lib/kubelet/pki/x /run/secrets/token
/run/secrets/kubernetes.io/serviceaccount/token
.env .env.local .env.production .env.development.local .env.keys apps/web/.env apps/web/.env.staging .netrc infra/terraform.tfstate
deploy/id_rsa config/master.key config/credentials/production.key .dev.vars
"""

PROTECTED = """
.git .git/hooks/pre-commit .git/config vendor/lib/.git vendor/lib/.git/hooks/x .gitmodules .jj/repo .hg/hgrc .svn/wc.db
.houseroom/policy.toml .claude/settings.json packages/a/.claude/settings.local.json .codex/config.toml .agents/skills/x
.gemini/settings.json .opencode/plugin/x.ts opencode.json .cursor/mcp.json .windsurf/x .continue/x .roo/mcp.json .cline/x .mcp.json
packages/a/.mcp.json .vscode/tasks.json packages/a/.vscode/settings.json .idea/workspace.xml .zed/tasks.json .vimrc .exrc
.nvim.lua .dir-locals.el app.code-workspace .envrc packages/a/.envrc .mise.toml mise.toml .devcontainer/devcontainer.json
.husky/pre-commit .githooks/x lefthook.yml .pre-commit-config.yaml .overcommit.yml node_modules/x/.git/config
~/.bashrc ~/.zshenv ~/.profile ~/.config/fish/config.fish ~/.config/systemd/user/x.service ~/.config/autostart/x.desktop
~/.local/bin/tool ~/bin/tool ~/.gitconfig ~/.config/git/config ~/.config/nvim/init.lua ~/.claude/settings.json
~/.config/houseroom/policy.toml
"""

WRITABLE = """
. src/main.py src/objects/pack.py README.md AGENTS.md CLAUDE.md .gitignore .gitattributes .editorconfig .github/workflows/ci.yml
package.json Makefile conftest.py .npmrc .tool-versions .env.example .env.sample .env.template .env.dist .env.defaults
apps/web/.env.example src/env.ts src/.environment keyboard.key i18n/keyboard.key tests/certs/server.key tests/certs/server.pem
certs/ca.crt src/secrets.py src/tokens.py src/credentials.ts passwords.md node_modules/x/index.js node_modules/x/.env
node_modules/x/.vscode/settings.json node_modules/@a/b/.env.test node_modules/ssh2/test/fixtures/id_rsa
node_modules/x/.idea/x node_modules/x/.husky/pre-commit .venv/lib/python3.12/site-packages/certifi/cacert.pem
.venv/lib/python3.12/site-packages/x/.vscode/settings.json mcp.json src/mcp.json id_rsa.pub .github/copilot-instructions.md
terraform.tfvars main.tf Dockerfile compose.yaml target/debug/x .venv/bin/python .tox/py312/bin/python git/hooks/x src/.gitkeep
"""

READABLE = """
/ /usr/bin/python3 /etc/passwd /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/ssh/ssh_config /home/ada ~/other/src/main.py
~/other/.env.example ~/.config/pip/pip.conf ~/.config/gh/config.yml ~/.docker/cli-plugins/docker-buildx ~/.config/uv/uv.toml
~/.local/share/uv/python/cpython-3.12/bin/python3.12 ~/.local/bin/uv ~/.nvm/versions/node/v22/bin/node ~/.pyenv/shims/python
~/.claude/CLAUDE.md ~/.codex/config.toml ~/.gemini/settings.json ~/go/bin/gopls /run/current-system/sw/bin/ls
/run/systemd/resolve/stub-resolv.conf /opt/tool/bin/x /var/lib/dpkg/status ~/.config/Code/User/settings.json ~/.terraform.d/plugins/x
"""

SCRATCH = """
~/.cache ~/.cache/pip/http/x ~/.cache/go-build/x ~/.cache/pre-commit/repo/.git/config ~/.cache/huggingface/hub/x ~/.npm/_cacache/x
~/.cargo/registry/x ~/.cargo/.package-cache ~/.rustup/toolchains/x ~/go/pkg/mod/x ~/.gradle/caches/x ~/.m2/repository/x
~/.local/state/x ~/.ipython/x ~/.local/share/jupyter/runtime/x ~/.dotnet/x ~/.bundle/cache/x ~/.android/debug.keystore
"""

PRIVATE = (
    "/tmp /tmp/x/.git/config /tmp/.X11-unix/X0 /var/tmp/x /run/docker.sock /run/user/1000/bus /run/user/1000 /run/dbus/system_bus_socket"
)


def paths(text: str) -> list[str]:
    """Absolute paths from a table's words: ``~`` is the home, relative ones are in the workspace."""
    spelt = []
    for word in text.split():
        root = PLACES.home + word[1:] if word.startswith("~") else word if word.startswith("/") else f"{PLACES.workspace}/{word}"
        spelt.append(root)
    return spelt


def access(policy: PlacedPolicy, path: str) -> str:
    return policy.access(components(path))[0]


@pytest.mark.parametrize("path", paths(HIDDEN))
def test_hidden(path: str) -> None:
    assert access(WORKSPACE, path) == "hide"
    assert not isinstance(decide(WORKSPACE, Read(path)), Allow)
    assert isinstance(decide(placed("full-access"), Read(path)), Allow)  # twin: it is the preset that refuses


@pytest.mark.parametrize("path", paths(PROTECTED))
def test_protected(path: str) -> None:
    assert access(WORKSPACE, path) == "protect"
    assert isinstance(decide(WORKSPACE, Read(path)), Allow)
    assert not isinstance(decide(WORKSPACE, Write(path)), Allow)
    assert isinstance(decide(placed("full-access"), Write(path)), Allow)


@pytest.mark.parametrize("path", paths(WRITABLE))
def test_writable(path: str) -> None:
    assert access(WORKSPACE, path) == "write"
    assert not isinstance(decide(placed("read-only"), Write(path)), Allow)
    assert isinstance(decide(placed("read-only"), Read(path)), Allow)


@pytest.mark.parametrize("path", paths(READABLE))
def test_readable_and_not_writable(path: str) -> None:
    assert isinstance(decide(WORKSPACE, Read(path)), Allow)
    assert not isinstance(decide(WORKSPACE, Write(path)), Allow)


@pytest.mark.parametrize("path", paths(SCRATCH))
def test_scratch(path: str) -> None:
    assert access(WORKSPACE, path) == "scratch"


@pytest.mark.parametrize("path", paths(PRIVATE))
def test_private(path: str) -> None:
    assert access(WORKSPACE, path) == "private"


WITHHELD = """
GITHUB_TOKEN GH_TOKEN gh_token GITLAB_TOKEN NPM_TOKEN NODE_AUTH_TOKEN TWINE_PASSWORD UV_PUBLISH_TOKEN CARGO_REGISTRY_TOKEN ANTHROPIC_API_KEY
ANTHROPIC_AUTH_TOKEN ANTHROPIC_CUSTOM_HEADERS OPENAI_API_KEY GEMINI_API_KEY CLAUDE_CODE_OAUTH_TOKEN AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
AWS_SESSION_TOKEN AWS_CONTAINER_AUTHORIZATION_TOKEN AWS_WEB_IDENTITY_TOKEN_FILE GOOGLE_APPLICATION_CREDENTIALS AZURE_CLIENT_SECRET
ARM_CLIENT_SECRET HF_TOKEN
SLACK_BOT_TOKEN SLACK_WEBHOOK_URL DJANGO_SECRET_KEY SECRET_KEY_BASE PGPASSWORD MYSQL_PWD DB_PASS POSTGRES_PASSWORD VAULT_TOKEN
DOCKER_AUTH_CONFIG SSH_AUTH_SOCK GPG_AGENT_INFO DBUS_SESSION_BUS_ADDRESS XAUTHORITY DISPLAY WAYLAND_DISPLAY DOCKER_HOST KUBECONFIG
ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_RUNTIME_TOKEN TF_TOKEN_app_terraform_io GITHUB_PAT AZURE_STORAGE_CONNECTION_STRING
npm_config_//registry.npmjs.org/:_authToken NPM_CONFIG__AUTH OTEL_EXPORTER_OTLP_HEADERS RESTIC_PASSWORD BORG_PASSPHRASE TMUX
VSCODE_GIT_IPC_HANDLE
"""

PASSED = """
PATH HOME USER SHELL LANG LC_ALL TERM COLORTERM TERM_SESSION_ID TZ PWD OLDPWD EDITOR PAGER KEYMAP XKB_DEFAULT_LAYOUT SSL_CERT_FILE
SSL_CERT_DIR
NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_SSH_COMMAND
XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_SESSION_ID XDG_SESSION_TYPE XDG_CACHE_HOME VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONSTARTUP
NODE_OPTIONS NODE_ENV
AWS_REGION AWS_DEFAULT_REGION AWS_PROFILE GITHUB_SHA GITHUB_WORKSPACE GITHUB_ACTIONS GITHUB_REF CI ANTHROPIC_MODEL ANTHROPIC_BASE_URL
OPENAI_BASE_URL TOKENIZERS_PARALLELISM MAX_TOKENS CLAUDE_CODE_MAX_OUTPUT_TOKENS JAVA_HOME GOPATH CARGO_HOME CC CFLAGS LD_LIBRARY_PATH
LD_PRELOAD MAKEFLAGS HTTP_PROXY NO_PROXY SHLVL LOGNAME DEBUG RUST_LOG LS_COLORS KEYBOARD MONKEY TURKEY_HOME AUTHOR COMPASS_HOME
S3_CACHE_KEY STRIPE_PUBLISHABLE_KEY GIT_CONFIG_KEY_0 SSH_CONNECTION SSH_TTY DATABASE_URL WSL_DISTRO_NAME
"""


@pytest.mark.parametrize("name", WITHHELD.split())
def test_withheld(name: str) -> None:
    assert not isinstance(decide(WORKSPACE, Variable(name)), Allow)
    assert isinstance(decide(placed("full-access"), Variable(name)), Allow)


@pytest.mark.parametrize("name", PASSED.split())
def test_passed(name: str) -> None:
    assert isinstance(decide(WORKSPACE, Variable(name)), Allow)


# Put together here, so that scanners which read this repository for credentials find none.
SECRETS = (
    "ASIA" + "QWERTYUIOP123456", "ghp_" + "a1B2" * 9, "github_pat_" + "11AAAAAAA0" * 4, "glpat-" + "x1" * 10, "sk-" + "proj-" + "a7" * 20,
    "xoxb-" + "1234567890-" * 3,
    "AKIA" + "ABCDEFGHIJKLMNOP", "npm_" + "a7" * 18, "pypi-" + "AgEIcHlwaS5vcmc" * 3,
    "postgres://app:pass@db/app", "  redis://:hunter2@cache:6379/0",
    "https://user:token@host/x.git https://other", "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nx\n", "https://oauth2:t@gitlab.example/a@b",
)  # fmt: skip
INNOCENT = (
    "", "sk-learn", "skip", "AKIA", "s", "sqlite:///db.sqlite3", "postgres://localhost/test", "postgres://app@localhost/test",
    "https://example.org/a:b@c", "https://example.org/?q=a:b@c", "ssh://git@host/x.git", "git@github.com:owner/repo.git",
    "http://proxy:8080", "postgres://app:$PASSWORD@db/app", "npm_config_cache directory of the user",
    "/home/ada/sk-learn-long-directory-name",
    "-----BEGIN CERTIFICATE-----\nMIIB", "sk-nothing-but-words-in-here", "npm_lifecycle_script_name",
    "ASIA_PACIFIC_NORTH_1", "://", "a:b@c", "http://[::1]:80/",
)  # fmt: skip


@pytest.mark.parametrize("value", SECRETS)
def test_values_that_look_secret(value: str) -> None:
    assert value_looks_secret(value)


@pytest.mark.parametrize("value", INNOCENT)
def test_values_that_do_not(value: str) -> None:
    assert not value_looks_secret(value)


def test_a_further_writable_directory_is_guarded() -> None:
    write = Rule("files.write", "~/notes", SESSION)
    bare, guarded = placed("workspace", write), placed("workspace", *presets.guards("~/notes/"), write)
    for path in ("/home/ada/notes/.git/hooks/x", "/home/ada/notes/a/.envrc", "/home/ada/notes/a/.env"):
        assert isinstance(decide(bare, Write(path)), Allow)
        assert not isinstance(decide(guarded, Write(path)), Allow)
    assert access(guarded, "/home/ada/notes/a/.env.example") == "write"
    assert access(guarded, "/home/ada/notes/todo.md") == "write"


def test_a_writable_home_keeps_what_the_host_would_run() -> None:
    home = placed("workspace", Rule("files.write", "~", SESSION))
    assert access(home, "/home/ada/notes.txt") == "write"
    for path in ("/home/ada/.bashrc", "/home/ada/.local/bin/x", "/home/ada/.gitconfig", "/home/ada/.config/autostart/x"):
        assert access(home, path) == "protect"
    assert access(home, "/home/ada/.ssh/id_rsa") == "hide"
    assert access(home, "/home/ada/.cargo/bin/cargo") == "scratch"


def test_an_agents_directory_opens_without_its_hooks() -> None:
    opened = placed("workspace", Rule("files.write", "~/.claude", SESSION), Rule("files.read", "~/.claude/.credentials.json", SESSION))
    assert access(opened, "/home/ada/.claude/projects/x.jsonl") == "write"
    assert access(opened, "/home/ada/.claude/settings.json") == "protect"
    assert access(opened, "/home/ada/.claude/.credentials.json") == "read"


def test_git_free_opens_the_repository_and_keeps_what_it_runs() -> None:
    free = PlacedPolicy(Policy("workspace", (presets.free_git(presets.preset("workspace")),)), PLACES)
    for path in (".git/index", ".git/refs/heads/main", "lib/.git/HEAD", ".git/info/exclude", ".gitmodules"):
        assert access(free, f"{PLACES.workspace}/{path}") == "write"
    for path in (
        ".git/hooks/pre-commit",
        ".git/config",
        "lib/.git/config",
        ".git/info/attributes",
        ".git/modules/a/b/hooks/x",
        ".git/modules/a/config",
    ):
        assert access(free, f"{PLACES.workspace}/{path}") == "protect"


def test_git_free_does_not_open_what_a_person_protected() -> None:
    theirs = Rule("files.protect", "**/.git", Origin("user", "policy.toml", 3))
    stratum = presets.preset("workspace")
    policy = PlacedPolicy(Policy("workspace", (presets.free_git(stratum.with_(rules=(*stratum.rules, theirs))),)), PLACES)
    assert access(policy, f"{PLACES.workspace}/.git/index") == "protect"


def test_a_workspace_below_the_private_tmp_is_the_hosts_own() -> None:
    policy = placed("workspace", places=Places("/tmp/build", "/home/ada"))
    assert access(policy, "/tmp/build/x") == "write"
    assert access(policy, "/tmp/build/.git/hooks/x") == "protect"
    assert access(policy, "/tmp/x") == "private"


@pytest.mark.parametrize("name", presets.NAMES)
def test_presets_say_what_they_are(name: str) -> None:
    stratum = presets.PRESETS[name]
    assert stratum.name == name
    assert stratum == presets.preset(name)
    assert all(rule.reason and rule.origin.layer == "preset" for rule in stratum.rules)
    assert stratum.closed == {"files.read", "files.write"}
    words = {rule.access for rule in stratum.rules if rule.key.startswith("files.")}
    assert words - {EXCEPT} <= set(ACCESSES)  # an exception grants nothing: the surroundings decide


def test_the_presets_are_a_mapping_of_their_names() -> None:
    assert tuple(presets.PRESETS) == presets.NAMES
    assert presets.DEFAULT in presets.PRESETS
    assert "workplace" not in presets.PRESETS
    with pytest.raises(KeyError):
        presets.PRESETS["workplace"]
    with pytest.raises(PolicyError, match="no preset 'workplace'"):
        presets.preset("workplace")


def test_the_network_is_closed_and_the_floor_is_set() -> None:
    policy = Policy("workspace", (presets.preset("workspace"),))
    reach, git = policy.setting("network.reach"), policy.setting("git.mode")
    assert reach is not None
    assert reach.value == "none"
    assert git is not None
    assert git.value == "read-only"
    floor = [rule.subject for rule in presets.preset("workspace").under("floor.require")]
    assert floor == ["files.write", "files.protect", "files.hide", "network", "processes"]
